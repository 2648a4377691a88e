"""The catalogue of all runs of a root: disposable, built from the run directories, shared by all who ask."""

from lightex.core.index.index import Index

__all__ = ["Index"]
