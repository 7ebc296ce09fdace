"""Commands that measure Edge Agent against its peers, and the scoring they share. Not installed."""
