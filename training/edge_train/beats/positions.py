"""Where a record's beats are: as the daemon's detector finds them, labelled by the reference beat that each is."""

from __future__ import annotations

import numpy as np

from edge_agent.signal.qrs import make_qrs_detector
from edge_train.arrays import Ints
from edge_train.data.mitdb import Record

MATCH_S = 0.150
"""Two marks closer than this are one beat (EC57)."""


def own_beats(record: Record, lead: int) -> Ints:
    """R peaks by the daemon's own detector."""
    detector = make_qrs_detector(record.fs, "ecg")
    beats = [*detector.feed(record.signals[lead], 0), *detector.flush()]
    return np.array(sorted(beat.sample for beat in beats), np.int64)


def match(reference: Ints, found: Ints, window: float) -> Ints:
    """For each found mark the index of its reference beat, -1 for none; each is used once, nearest pairs first."""
    pairs = []
    for i, at in enumerate(found.tolist()):
        low, high = np.searchsorted(reference, [at - window, at + window + 1])
        pairs += [(abs(int(reference[k]) - at), i, k) for k in range(low, high)]
    result = np.full(found.size, -1, np.int64)
    taken: set[int] = set()
    for _, i, k in sorted(pairs):
        if result[i] < 0 and k not in taken:
            result[i] = k
            taken.add(k)
    return result


def matched_beats(record: Record, oracle: bool) -> tuple[Ints, Ints]:
    """Positions and labels. False detections have no label and are left out, and so are beats that were missed."""
    if oracle:
        return record.sample, record.label
    found = own_beats(record, record.main)
    pair = match(record.sample, found, MATCH_S * record.fs)
    return found[pair >= 0], record.label[pair[pair >= 0]].astype(np.int64)
