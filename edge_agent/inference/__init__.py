"""Models: artifacts and their manifests, engines, and the way from a window to a verdict."""
