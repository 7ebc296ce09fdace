"""Where events go: the broker with its outbox, a file of lines, recordings, metrics, Home Assistant."""
