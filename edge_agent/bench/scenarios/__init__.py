"""What is measured: one scenario a module."""
