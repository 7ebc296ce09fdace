"""The agent as a process among others: its memory, the signals it is sent, and what systemd is told of it."""
