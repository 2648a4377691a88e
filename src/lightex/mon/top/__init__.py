"""`lx top`: what every job is doing, in the terminal. Needs Textual (extra `tui`)."""
