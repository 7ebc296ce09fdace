"""The journal: undo, restarts, crashes, several people; and what is exported is what was done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import wfdb

from edge_agent.annotation_files import artf
from edge_agent.review.corrections import Conflict, Corrections, Operation, Refused, wish
from edge_agent.review.library import Library
from tests.review.conftest import wait_for

_count = 0


def asked(act: str, who: str = "ann", **more: Any) -> Any:
    global _count
    _count += 1
    return wish({"token": f"token-{_count:06d}", "who": who, "act": act, **more})


def beat(label: str, base: int = 0, at: int = 100, who: str = "ann") -> Any:
    return asked("label", who, id="m100", sample=at, label=label, base=base)


@pytest.fixture
def kept(tmp_path: Path) -> Corrections:
    return Corrections(tmp_path / "c.sqlite")


def label(kept: Corrections, thing: str = "m100") -> str | None:
    one = kept.journal("r").things.get(thing)
    return None if one is None else one.value["label"]


def test_undo_and_redo_across_a_restart(kept: Corrections, tmp_path: Path) -> None:
    first = kept.apply("r", beat("V"))
    kept.apply("r", beat("S", base=first.seq))
    kept.step("r", "undo-0001", "ann", "undo")
    assert label(kept) == "V"
    kept.close()
    again = Corrections(tmp_path / "c.sqlite")
    assert label(again) == "V"
    again.step("r", "redo-0001", "ann", "redo")
    assert label(again) == "S"
    again.step("r", "undo-0002", "ann", "undo")
    again.step("r", "undo-0003", "ann", "undo")
    assert label(again) is None
    with pytest.raises(Refused, match="nothing to undo"):
        again.step("r", "undo-0004", "ann", "undo")


def test_two_browsers_lose_nothing(kept: Corrections, tmp_path: Path) -> None:
    other = Corrections(tmp_path / "c.sqlite")  # another process, as it were
    mine = kept.apply("r", beat("V"))
    with pytest.raises(Conflict) as caught:
        other.apply("r", beat("S", who="bob"))  # bob had not seen it
    assert caught.value.latest.who == "ann"
    theirs = other.apply("r", beat("S", base=mine.seq, who="bob"))
    kept.step("r", "undo-0005", "ann", "undo")  # ann takes hers back; bob's stands
    assert label(kept) == "S"
    assert label(other) == "S"
    assert [one.who for one in kept.journal("r").operations if one.act == "label"] == ["ann", "bob"]
    assert theirs.seq > mine.seq


def test_the_same_operation_sent_twice_is_done_once(kept: Corrections) -> None:
    one = beat("V")
    assert kept.apply("r", one) == kept.apply("r", one)
    assert len(kept.journal("r").operations) == 1


def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from edge_agent.review.corrections import Corrections, wish
        kept = Corrections(Path(sys.argv[1]))
        for n in range(10**6):
            kept.apply("r", wish(dict(token=f"token-{n:06d}", who="ann", act="add", sample=n, label="V")))
            print(n, flush=True)
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "c.sqlite")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    answered = [int(process.stdout.readline()) for _ in range(20)]
    os.kill(process.pid, signal.SIGKILL)
    answered += [int(line) for line in process.stdout.read().split("\n")[:-1] if line]
    process.wait()
    process.stdout.close()
    said = {one.value["sample"] for one in Corrections(tmp_path / "c.sqlite").journal("r").operations}
    assert set(answered) <= said


@pytest.mark.parametrize(
    "wrong",
    [
        {"act": "label", "id": "m1", "sample": 1, "label": "X"},
        {"act": "label", "id": "../x", "sample": 1, "label": "V"},
        {"act": "label", "id": "m1", "sample": -1, "label": "V"},
        {"act": "label", "id": "m1", "sample": True, "label": "V"},
        {"act": "label", "id": "m1", "sample": 1.5, "label": "V"},
        {"act": "label", "sample": 1, "label": "V"},
        {"act": "add", "id": "m1", "sample": 1, "label": "V"},
        {"act": "artefact", "first": 10, "end": 10, "channel": "ABP"},
        {"act": "artefact", "first": 1, "end": 10},
        {"act": "undo"},
        {"act": "label", "id": "m1", "sample": 1, "label": "V", "extra": 1},
        {"act": "label", "id": "m1", "sample": 1, "label": "V", "who": "a\nb"},
    ],
    ids=range(12),
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        wish({"token": "token-x-1", "who": "ann", **wrong})


@pytest.fixture
def analysed(library: Library) -> Any:
    opened = library.open("patient")
    wait_for(lambda: opened.merged() and opened.found.state in ("whole", "failed"), 60)
    assert opened.found.state == "whole", opened.found.why
    return opened


def test_the_models_words_are_there(analysed: Any) -> None:
    merged, _ = analysed.merged()
    counts = merged.counts()
    assert counts["all"] > 80
    assert counts["V"] > 3
    assert counts["person"] == counts["disagree"] == 0
    assert len([one for one in merged.segments if one.channel == "ABP"]) == 8
    v = merged.next("V", 0, True)
    assert v is not None
    assert v.model == "V"
    assert v.score is not None
    assert merged.next("V", v.sample, False) is None  # it was the first one


def correct(library: Library, opened: Any) -> dict[str, Any]:
    merged, _ = opened.merged()
    v = merged.next("V", 0, True)
    n = merged.next("N", v.sample, True)
    gone = merged.next("N", n.sample, True)
    moved = merged.next("N", gone.sample, True)
    segment = merged.segments[2]
    apply = library.corrections.apply
    apply("patient", asked("label", id=v.id, sample=v.sample, label="F"))
    apply("patient", asked("accept", id=n.id, sample=n.sample, label="N"))
    apply("patient", asked("delete", id=gone.id, sample=gone.sample))
    apply("patient", asked("move", id=moved.id, sample=moved.sample + 7, label="N"))
    apply("patient", asked("add", sample=gone.sample + 20, label="S"))
    apply("patient", asked("artefact", first=segment.first, end=segment.end, channel=segment.channel))
    return {"v": v, "n": n, "gone": gone, "moved": moved, "segment": segment}


def test_model_and_person_stay_apart(library: Library, analysed: Any) -> None:
    done = correct(library, analysed)
    merged, _ = analysed.merged()
    (one,) = merged.beats(done["v"].sample, done["v"].sample + 1, 10)
    assert (one.label, one.model, one.who, one.act) == ("F", "V", "ann", "label")
    assert merged.counts()["person"] == 5
    assert merged.counts()["disagree"] == 3  # relabelled, deleted, added
    assert [one.sample for one in (merged.beat(int(i)) for i in merged.order)] == sorted(merged.sample.tolist())


def test_what_is_exported_is_what_was_done(library: Library, analysed: Any) -> None:
    done = correct(library, analysed)
    merged, _ = analysed.merged()
    exported = analysed.export()
    read = wfdb.rdann(str(exported.annotations.with_suffix("")), "rev")
    at = dict(
        zip(read.sample.tolist(), zip(read.symbol, read.subtype.tolist(), read.aux_note, strict=True), strict=True)
    )
    assert at[done["v"].sample][:2] == ("F", 1)
    assert at[done["v"].sample][2].startswith("label F was V, ann ")
    assert done["gone"].sample not in at
    assert done["moved"].sample not in at
    assert at[done["moved"].sample + 7][:2] == ("N", 1)
    assert at[done["gone"].sample + 20][:2] == ("S", 1)
    expected = {
        beat.sample: beat.label or "Q" for beat in map(merged.beat, range(merged.sample.size)) if not beat.deleted
    }
    assert {sample: said[0] for sample, said in at.items()} == expected
    record = wfdb.rdrecord(str(exported.annotations.with_suffix("")), sampto=10)  # the recording lies beside it
    assert record.sig_name == ["II", "ABP"]
    (group,) = artf.read(exported.marks).groups
    (mark,) = group.marks
    segment = done["segment"]
    assert group.signal == "ABP"
    assert (mark.start_us, mark.end_us) == (segment.first * 4000, segment.end * 4000)
    assert mark.modified_by == "ann"
    assert artf.parse(artf.render(artf.read(exported.marks))) == artf.read(exported.marks)


def test_marks_that_lay_there_are_kept_unless_the_person_says_otherwise(
    library: Library, analysed: Any, recordings: Path
) -> None:
    merged, _ = analysed.merged()
    first, second = merged.segments[1], merged.segments[4]
    mark = artf.Mark(first.first * 4000, first.end * 4000, "old", None, (("Note", "a < b"),))
    other = artf.Mark(second.first * 4000, second.end * 4000, "old")
    artf.write(
        recordings / "patient.artf", artf.Artf((artf.Group("ABP", (mark, other)),), "x.hdf5", "u", (), ("<Foreign/>",))
    )
    library.corrections.apply("patient", asked("normal", first=second.first, end=second.end, channel="ABP"))
    made = artf.read(analysed.export().marks)
    assert made.groups == (artf.Group("ABP", (mark,)),)
    assert made.foreign == ("<Foreign />",)


def test_operations_are_told_to_who_asks(kept: Corrections) -> None:
    one = kept.apply("r", beat("V"))
    assert kept.since("r", 0) == [one]
    assert kept.since("r", one.seq) == []
    assert isinstance(one, Operation)


def test_a_state_that_is_being_read_does_not_change(kept: Corrections) -> None:
    before = kept.journal("r")
    kept.apply("r", beat("V"))
    assert before.seq == 0
    assert before.things == {}
    assert kept.journal("r").seq == 1
