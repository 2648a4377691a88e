"""One API that logs parameters, metrics and models of a run; the run's directory is the truth."""
