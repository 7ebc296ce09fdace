"""From a fitted net to the artifact: int8, its gates, golden vectors, manifest, card, signature."""
