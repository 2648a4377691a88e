"""Data and code that runs need and leave: snapshots of the code."""
