"""The Edge TPU, in a process of its own that may hang and die."""
