"""The store of installed models: archives, signatures, trials, rolling back."""
