"""Reading TFLite files without the runtime: operators, and whether the Edge TPU takes them."""
