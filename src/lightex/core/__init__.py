"""What every component stands on: data and its formats. Imports nothing above it."""
