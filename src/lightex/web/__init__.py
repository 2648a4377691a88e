"""The shell of the web UI: it mounts the pages, guards them, keeps them live."""
