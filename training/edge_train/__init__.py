"""Training, measuring and packing of the models that Edge Agent runs. Never on the device: the two meet in the artifact."""

__version__ = "0.1.0"
