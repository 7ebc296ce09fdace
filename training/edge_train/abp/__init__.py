"""Arterial pressure: the task (`segment`), lines, what goes wrong with them, and what the models are worth."""
