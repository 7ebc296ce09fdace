"""``edge-bench``: how long models, streams and the whole agent take on this device, said so that it can be believed."""
