"""Nets by name, what an epoch is made of, and the fit."""
