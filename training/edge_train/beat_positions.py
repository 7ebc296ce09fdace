"""Where a record's beats are: as the daemon's detector finds them, labelled by the reference beat that each is."""

from __future__ import annotations

import numpy as np

from edge_train.data import MATCH_S, Ints, Record, match, own_beats


def matched_beats(record: Record, oracle: bool) -> tuple[Ints, Ints]:
    """Positions and labels. False detections have no label and are left out, and so are beats that were missed."""
    if oracle:
        return record.sample, record.label
    found = own_beats(record, record.main)
    pair = match(record.sample, found, MATCH_S * record.fs)
    return found[pair >= 0], record.label[pair[pair >= 0]].astype(np.int64)
