"""``edge-bench``: how long the models take on this device, said so that it can be believed."""
