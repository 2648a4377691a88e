"""Runs of other tools, brought in as run directories."""
