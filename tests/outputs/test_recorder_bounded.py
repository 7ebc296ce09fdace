"""What the recorder keeps in memory does not grow with the length of a recording."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.outputs.test_recorder import FS, INFO, beat, play, recording, verdict


@pytest.mark.parametrize("mode", ["everything", "events"])
def test_classes_that_come_too_late_are_not_kept(tmp_path: Path, mode: str) -> None:
    """A slow model: each class comes ten seconds after its beat, when the beat has been written."""
    with recording(tmp_path, mode=mode, before_s=5.0) as recorder:
        for second in range(40):
            play(recorder, 1.0, first=round(second * FS))
            recorder.event(beat(round(second * FS)))
            if second >= 10:
                recorder.event(verdict(round((second - 10) * FS), "V"))
    (stream,) = recorder._streams.values()
    assert stream.info == INFO
    assert recorder.counters.dropped == 0
    assert all(sample >= stream.end - 6 * FS for sample, _ in stream.codes)  # whose beats still wait, in events mode
    assert all(one.sample >= stream.end - 6 * FS for one in stream.waiting)
