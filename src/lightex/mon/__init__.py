"""What every job is doing, and what to do about it."""
