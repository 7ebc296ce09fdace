"""Files with a few bytes changed, through the vetting and, where that lets them pass, through the runtime.

``python -m tests.inference.mutants SEED MANY`` says which one it is at before it tries it: if the process dies, the last line names it.
"""

from __future__ import annotations

import random
import sys

import numpy as np

from edge_agent.errors import ArtifactError
from edge_agent.inference.engine import find_runtime
from edge_agent.inference.loaded import model_names, shipped_models
from edge_agent.inference.tflite.vet import vetted
from tests.inference.tiny import TINY

ODD = (0, 1, 2, 3, -1, -2, 2**31 - 1, -(2**31), 16, 1000, 65536)


def mutant(content: bytes, rng: random.Random) -> bytes:
    """Bytes, bits and whole words; the identifier stays."""
    made = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(8, len(made))
        kind = rng.random()
        if kind < 0.4:
            made[at] = rng.randrange(256)
        elif kind < 0.6:
            made[at] ^= 1 << rng.randrange(8)
        else:
            at = at // 4 * 4
            word = rng.choice(ODD).to_bytes(4, "little", signed=True)
            made[at : at + 4] = word[: len(made) - at]
    return bytes(made)


def tried(content: bytes) -> bool:
    """Whether the runtime takes it; that it refuses it is as good."""
    try:
        interpreter = find_runtime()[1](model_content=content, num_threads=1)
        interpreter.allocate_tensors()
        for detail in interpreter.get_input_details():
            interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
        interpreter.invoke()
    except (ValueError, RuntimeError):
        return False
    return True


def main(seed: int, many: int) -> None:
    rng = random.Random(seed)
    files = [(shipped_models() / name / "model.tflite").read_bytes() for name in model_names(shipped_models())]
    files.append(TINY)
    counts = {"refused": 0, "taken": 0, "refused by the runtime": 0}
    for number in range(many):
        content = mutant(files[number % len(files)], rng)
        try:
            vetted(content, "mutant")
        except ArtifactError:
            counts["refused"] += 1
            continue
        print(f"mutant {number} of seed {seed}", flush=True)
        counts["taken" if tried(content) else "refused by the runtime"] += 1
    print("alive", counts)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
