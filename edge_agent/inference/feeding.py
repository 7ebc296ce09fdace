"""What a model is fed, in one word: two versions with the same one can take each other's place between two windows."""

from __future__ import annotations

import hashlib
import json

from edge_agent.inference.manifest import Manifest


def feeding_of(manifest: Manifest) -> str:
    """Of task, anchor, channels and inputs: all that goes into a window. Labels and thresholds are about what comes out."""
    fed = manifest.model_dump(mode="json", include={"task", "anchor", "channels", "inputs"})
    return hashlib.sha256(json.dumps(fed, sort_keys=True).encode()).hexdigest()[:16]
