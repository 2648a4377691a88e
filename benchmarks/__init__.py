"""Figures beside the physical limit or a peer in the same run, as ratios: python -m benchmarks [NAME...]."""
