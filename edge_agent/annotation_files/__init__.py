"""Files in which people mark recordings: WFDB annotations, and the marks of ICM+."""
