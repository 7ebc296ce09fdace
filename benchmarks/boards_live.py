"""Every board through a tty at its own baud, in real time: does each sample come once, and how late?

    python -m benchmarks.boards_live [--minutes 10] [--boards cyton,bitalino]

All of them at once, each emulated on a pty of its own (bytes paced to its baud) and read by the daemon's own source. What
arrives is held against what a decoder makes of the bytes directly.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import sys
import threading
import time
from dataclasses import dataclass, field

import numpy as np

from edge_agent.config import BoardSource
from edge_agent.errors import SourceLost
from edge_agent.journey import Block, Samples
from edge_agent.sources.boards import registry
from edge_agent.sources.emulated import Emulated, Wearer, options_for
from edge_agent.sources.emulated_port import EmulatedPort
from edge_agent.sources.serial_port import open_board
from edge_agent.sources.simulated.script import Episode, Script

SINUS = Script((Episode(name="sinus", duration_s=3600.0),))
AT_ONCE_S = 10.0


@dataclass
class Run:
    name: str
    port: EmulatedPort
    blocks: list[Block] = field(default_factory=list)

    def read(self) -> None:
        settings = {"type": "board", "board": self.name, "port": self.port.path, "silent_s": 3.0}
        source = open_board(BoardSource.model_validate({**settings, **options_for(self.name)}))
        try:
            for block in source.blocks(threading.Event()):
                self.blocks.append(block)
        except SourceLost:  # the board is silent: it has sent all that it was to send
            pass
        finally:
            source.close()


def differences(run: Run, seconds: float) -> tuple[int, int, int]:
    """Samples that arrived; those that are not what they should be, in their order; those said to be lost."""
    board = Emulated(run.name, options_for(run.name))
    wearer = Wearer(board.board.fs, SINUS, 0, forever=True)
    decoder = board.codec.decoder()
    got: Samples = np.concatenate([block.values for block in run.blocks], axis=1)
    expected = 0
    jumped = sum(block.first - before.end for before, block in itertools.pairwise(run.blocks))
    wrong = at = 0
    for _ in range(round(seconds / AT_ONCE_S)):
        parts = wearer.samples(board.board, round(AT_ONCE_S * board.board.fs))
        for values, off in parts:
            for chunk in decoder.decode(board.frames(values, off, None)):
                part = got[:, at : at + chunk.values.shape[1]]
                wanted = chunk.values[:, : part.shape[1]]
                wrong += int(((part != wanted) & ~(np.isnan(part) & np.isnan(wanted))).any(axis=0).sum())
                at += chunk.values.shape[1]
                expected += chunk.values.shape[1]
    return got.shape[1], wrong + abs(expected - got.shape[1]), jumped


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--boards", default=",".join(registry.NAMES))
    options = parser.parse_args(arguments)
    seconds = options.minutes * 60
    runs = [Run(name, EmulatedPort(Emulated(name, options_for(name)), SINUS)) for name in options.boards.split(",")]
    stop = threading.Event()
    threads = [threading.Thread(target=run.port.run, args=(seconds, stop)) for run in runs]
    threads += [threading.Thread(target=run.read) for run in runs]
    began, cpu = time.monotonic(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took, cpu = time.monotonic() - began, time.process_time() - cpu
    print("| board | baud | bytes | samples | wrong, missing or twice | said to be lost | overruns |")
    print("|---|---|---|---|---|---|---|")
    bad = 0
    for run in runs:
        count, wrong, lost = differences(run, seconds)
        bad += wrong + lost
        sent = run.port.sent
        print(
            f"| {run.name} | {run.port.board.board.baud} | {sent.bytes_sent} | {count} | {wrong} | {lost} | {sent.overrun} |",
            flush=True,
        )
        run.port.close()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\n{took:.0f} s; emulators and readers together took {cpu:.0f} s of CPU, {memory:.0f} MiB at most")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
