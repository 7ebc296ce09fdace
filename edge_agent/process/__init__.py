"""The agent as a process among others: its memory, and what systemd is told of it."""
