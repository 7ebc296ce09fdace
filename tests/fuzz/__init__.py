"""Bytes of strangers: every parser of something that comes from outside, and the inputs that try it."""
