"""An artifact taught one patient by his corrections, measured on everybody else."""
