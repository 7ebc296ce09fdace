"""What a file with a batch brings: eight windows at once, one by one, and one alone.

    python -m benchmarks.batches

A dense net of 75 x 256 x 2 in int8, written here, with a batch of 1 and of 8. The agent asks for a window as soon as it is there
(docs/bring-your-own-model.md says why); this is what asking for several at once would save.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from edge_agent.inference.engine import CpuEngine
from tests.inference.made import G, Op, T, tflite

SAMPLES, HIDDEN, BATCH, CALLS = 75, 256, 8, 2000
DENSE = 9


def net(batch: int) -> bytes:
    rng = np.random.default_rng(0)
    first = rng.integers(-127, 127, (HIDDEN, SAMPLES)).astype(np.int8)
    second = rng.integers(-127, 127, (2, HIDDEN)).astype(np.int8)
    tensors = [
        T((batch, SAMPLES), name="x:0", scales=(0.04,)),
        T((HIDDEN, SAMPLES), name="w", scales=(0.01,), data=first),
        T((batch, HIDDEN), scales=(0.15,)),
        T((2, HIDDEN), name="v", scales=(0.01,), data=second),
        T((batch, 2), scales=(0.15,)),
    ]
    return tflite(G(tensors, [Op(DENSE, (0, 1, -1), (2,), 4, 8), Op(DENSE, (2, 3, -1), (4,), 4, 8)], [0], [4]))


def median_us(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(CALLS):
        began = time.perf_counter_ns()
        work()
        taken.append(time.perf_counter_ns() - began)
    return float(np.percentile(taken, 50)) / 1000


def main() -> None:
    single, several = CpuEngine(net(1), (SAMPLES,), 2), CpuEngine(net(BATCH), (SAMPLES,), 2)
    rng = np.random.default_rng(1)
    windows = [(rng.normal(size=SAMPLES).astype(np.float32),) for _ in range(BATCH)]
    for said, work in (
        (f"{BATCH} windows, batch of 1, one by one", lambda: [single.invoke(one) for one in windows]),
        (f"{BATCH} windows, batch of {BATCH}, one by one", lambda: [several.invoke(one) for one in windows]),
        (f"{BATCH} windows, batch of {BATCH}, at once", lambda: several.invoke_many(windows)),
        ("1 window, batch of 1", lambda: single.invoke(windows[0])),
        (f"1 window, batch of {BATCH}", lambda: several.invoke(windows[0])),
    ):
        print(f"{said:<36}{median_us(work):7.1f} us p50")


if __name__ == "__main__":
    main()
