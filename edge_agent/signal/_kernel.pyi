"""The compiled half of ``qrs``; see ``qrs_reference`` for what it does."""

from typing import final

import numpy as np
from numpy.typing import NDArray

@final
class Kernel:
    """``design`` and ``weights`` as ``Design.packed`` and ``Weights.packed`` make them; no weights: the rules decide."""

    def __new__(cls, design: bytes, weights: bytes, first: int = 0, trace: bool = False) -> Kernel: ...
    @property
    def learned(self) -> bool: ...
    def feed(self, x: NDArray[np.float32], first: int, /) -> list[tuple[int, int, float]] | None: ...
    def flush(self) -> list[tuple[int, int, float]] | None: ...
    def reset(self, first: int, /) -> None: ...
    def force(self, candidates: bytes, /) -> None:
        """For training, with ``trace``: these candidates (int64, ascending) are the beats, and nothing is decided."""

    def trace(self) -> bytes:
        """For training: a row of doubles for each candidate since the last call: candidate, R peak, decided,
        probability, not asked, energy, inputs."""
