"""Boards on a serial line: bytes in and samples out, one file for each family of frames.

Nothing in here knows of ports, configuration or what becomes of the samples.
"""
