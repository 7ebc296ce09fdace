"""What the recorder keeps in memory does not grow with the length of a recording."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.outputs.recorder import RAISED_WITHIN_S
from tests.outputs.test_recorder import FS, INFO, alarm, beat, play, recording, segments, verdict


@pytest.mark.parametrize("mode", ["everything", "events"])
def test_classes_that_come_too_late_are_not_kept(tmp_path: Path, mode: str) -> None:
    """A slow model: each class comes twenty seconds after its beat, when the beat has been written."""
    with recording(tmp_path, mode=mode, before_s=5.0) as recorder:
        for second in range(60):
            play(recorder, 1.0, first=round(second * FS))
            recorder.event(beat(round(second * FS)))
            if second >= 20:
                recorder.event(verdict(round((second - 20) * FS), "V"))
    (stream,) = recorder._streams.values()
    assert stream.info == INFO
    assert recorder.counters.dropped == 0
    kept_s = 5.0 + RAISED_WITHIN_S + 1  # in events mode, their beats still wait
    assert all(sample >= stream.end - kept_s * FS for sample, _ in stream.codes)
    assert all(one.sample >= stream.end - kept_s * FS for one in stream.waiting)


def test_an_alarm_that_is_told_late_has_all_that_was_before_it(tmp_path: Path) -> None:
    """Not what was before the news: eight seconds go by until a rule is sure."""
    with recording(tmp_path, mode="events", before_s=10.0, after_s=5.0) as recorder:
        end = play(recorder, 60)
        recorder.event(alarm(round(end - 8 * FS)))
        play(recorder, 20, first=end)
    (path,) = segments(tmp_path)
    assert int(path.name.rsplit("-", 1)[1]) / FS == pytest.approx(60 - 8 - 10, abs=0.5)
