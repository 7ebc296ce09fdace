"""Public data: fetched, checked, read, and cut into windows by the daemon's own code."""
