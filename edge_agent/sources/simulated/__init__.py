"""A patient that does not exist, and the truth about it."""
