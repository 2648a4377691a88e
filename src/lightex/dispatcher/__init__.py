"""Runs experiments: as processes here, elsewhere through engines that exist already."""
