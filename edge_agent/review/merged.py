"""The model's beats and segments with what people said of them: both words, kept apart."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.inference.manifest import SEGMENT_TASK
from edge_agent.review.corrections import Journal, Operation
from edge_agent.review.findings import LABELS, NO_LABEL, Found

LOW = 0.7
"""A score below this is low confidence."""
MATCH_S = 0.150
"""Two marks closer than this are one beat (EC57)."""
SEGMENT_S = 10.0
FILTERS = ("all", *LABELS, "low", "disagree", "person", "segments")
_NUMBER = {name: i for i, name in enumerate(LABELS)}


@dataclass(frozen=True, slots=True)
class Beat:
    id: str
    sample: int
    label: str | None
    model: str | None
    score: float | None
    reference: str | None
    act: str | None
    who: str | None
    at: str | None
    seq: int
    deleted: bool

    def plain(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Segment:
    first: int
    end: int
    channel: str
    label: str | None
    """The model's."""
    score: float | None
    artefact: bool | None
    """The person's."""
    who: str | None
    at: str | None
    seq: int

    @property
    def abnormal(self) -> bool:
        return self.label == "anomalous" if self.artefact is None else self.artefact

    def plain(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__} | {"abnormal": self.abnormal}


class Merged:
    """One state of both; made anew when either changed."""

    def __init__(
        self,
        found: Found,
        journal: Journal,
        reference: tuple[NDArray[np.int64], NDArray[np.uint8]],
        channel: str,
        samples: int,
    ) -> None:
        """``channel``: whose segments are looked at, where the model has none. ``reference``: the record's own annotations."""
        self.version = (found.version, journal.seq)
        edits = {thing: one for thing, one in journal.things.items() if thing[0] in "ma"}
        extra: list[tuple[int, str]] = []  # beats of a person, and moved ones
        covered = {}
        for thing, one in edits.items():
            if thing[0] == "m":
                covered[int(thing[1:])] = one
        place = np.searchsorted(found.sample, sorted(covered)) if covered else np.empty(0, np.int64)
        self.sample = found.sample.copy()
        self.label = found.label.copy()
        self.model, self.score = found.label, found.score
        self._origin = found.sample
        self._edit: dict[int, Operation] = {}  # by the origin's sample
        deleted = np.zeros(self.sample.size, bool)
        for at, origin in zip(place.tolist(), sorted(covered), strict=True):
            one = covered[origin]
            if at < self.sample.size and self._origin[at] == origin:
                self._edit[origin] = one
                self.sample[at] = one.value["sample"]
                if one.act == "delete":
                    deleted[at] = True
                else:
                    self.label[at] = _NUMBER[one.value["label"]]
            else:  # the model that found it is another one now; the person's word stands
                extra.append((int(one.value["sample"]), f"m{origin}"))
        extra += [(int(one.value["sample"]), thing) for thing, one in edits.items() if thing[0] == "a"]
        self._edits = edits
        n = self.sample.size
        if extra:
            self.sample = np.concatenate([self.sample, np.array([at for at, _ in extra], np.int64)])
            said = [edits[thing] for _, thing in extra]
            fresh = np.array(
                [NO_LABEL if one.act == "delete" else _NUMBER[one.value["label"]] for one in said], np.uint8
            )
            self.label = np.concatenate([self.label, fresh])
            self.model = np.concatenate([self.model, np.full(len(extra), NO_LABEL, np.uint8)])
            self.score = np.concatenate([self.score, np.full(len(extra), np.nan, np.float32)])
            deleted = np.concatenate([deleted, np.array([one.act == "delete" for one in said])])
        self.deleted = deleted
        self._ids: dict[int, str] = {n + i: thing for i, (_, thing) in enumerate(extra)}
        self.person = np.zeros(self.sample.size, bool)
        for origin in self._edit:
            self.person[int(np.searchsorted(self._origin, origin))] = True
        self.person[n:] = True
        self.order = np.argsort(self.sample, kind="stable")
        self.sorted = self.sample[self.order]
        self.reference = _matched(self.sample, reference, round(MATCH_S * found.fs))
        self._n = n
        self.segments = _segments(found, journal, channel, samples)

    # -- beats ---------------------------------------------------------------------------------------------------

    def beats(self, first: int, end: int, most: int) -> list[Beat] | None:
        """Those of a stretch; None where there are more than ``most``."""
        low, high = np.searchsorted(self.sorted, (first, end))
        return None if high - low > most else [self.beat(int(i)) for i in self.order[low:high]]

    def beat(self, i: int) -> Beat:
        thing = self._ids.get(i) or f"m{int(self._origin[i])}"
        edit = self._edits.get(thing)
        score = float(self.score[i])
        return Beat(
            id=thing,
            sample=int(self.sample[i]),
            label=_name(self.label[i]),
            model=_name(self.model[i]),
            score=None if math.isnan(score) else round(score, 4),
            reference=_name(self.reference[i]),
            act=edit.act if edit else None,
            who=edit.who if edit else None,
            at=edit.at if edit else None,
            seq=edit.seq if edit else 0,
            deleted=bool(self.deleted[i]),
        )

    def wanted(self, which: str) -> NDArray[np.bool_]:
        """Which beats a filter lets through, in the order of ``sample``."""
        alive = ~self.deleted
        if which in _NUMBER:
            return np.asarray(alive & (self.label == _NUMBER[which]))
        if which == "low":
            return np.asarray(alive & ((self.score < LOW) | (self.model == NO_LABEL)))
        if which == "disagree":
            differs = (self.person & (self.label != self.model)) | self.deleted
            known = self.reference != NO_LABEL
            return np.asarray(differs | (known & alive & (self.label != self.reference)))
        if which == "person":
            return self.person
        return np.asarray(alive)

    def next(self, which: str, at: int, forward: bool) -> Beat | None:
        """The nearest beat after (before) a sample that a filter lets through."""
        chosen = self.order[self.wanted(which)[self.order]]
        samples = self.sample[chosen]
        i = int(np.searchsorted(samples, at, "right")) if forward else int(np.searchsorted(samples, at, "left")) - 1
        return self.beat(int(chosen[i])) if 0 <= i < chosen.size else None

    def next_segment(self, at: int, forward: bool) -> Segment | None:
        """The nearest abnormal one that begins after (before) a sample."""
        chosen = [one for one in self.segments if one.abnormal]
        starts = [one.first for one in chosen]
        i = bisect_left(starts, at + 1) if forward else bisect_left(starts, at) - 1
        return chosen[i] if 0 <= i < len(chosen) else None

    def counts(self) -> dict[str, int]:
        return {name: int(self.wanted(name).sum()) for name in FILTERS if name != "segments"} | {
            "segments": sum(one.abnormal for one in self.segments)
        }

    def overview(self, bins: int, samples: int, fs: float) -> dict[str, list[Any]]:
        """By equal stretches: the median heart rate, and how many beats of each class."""
        alive = self.order[~self.deleted[self.order]]
        at, label = self.sample[alive], self.label[alive]
        which = np.minimum(at * bins // max(1, samples), bins - 1)
        made: dict[str, list[Any]] = {
            name: np.bincount(which[label == i], minlength=bins).tolist() for i, name in enumerate(LABELS)
        }
        rates: list[float | None] = [None] * bins
        if at.size > 1:
            rr = np.diff(at) / fs
            rate = np.where((rr > 0.2) & (rr < 3), 60 / np.maximum(rr, 1e-3), np.nan)
            edges = np.searchsorted(which[1:], np.arange(bins + 1))
            for i in range(bins):
                part = rate[edges[i] : edges[i + 1]]
                part = part[np.isfinite(part)]
                rates[i] = round(float(np.median(part)), 1) if part.size else None
        made["rate"] = rates
        return made


def _name(label: Any) -> str | None:
    return LABELS[int(label)] if label != NO_LABEL else None


def _matched(
    sample: NDArray[np.int64], reference: tuple[NDArray[np.int64], NDArray[np.uint8]], most: int
) -> NDArray[np.uint8]:
    """The reference's label of each beat, by the nearest one."""
    at, label = reference
    made = np.full(sample.size, NO_LABEL, np.uint8)
    if at.size and sample.size:
        right = np.clip(np.searchsorted(at, sample), 0, at.size - 1)
        left = np.maximum(right - 1, 0)
        nearest = np.where(np.abs(at[left] - sample) <= np.abs(at[right] - sample), left, right)
        close = np.abs(at[nearest] - sample) <= most
        made[close] = label[nearest[close]]
    return made


def _segments(found: Found, journal: Journal, channel: str, samples: int) -> list[Segment]:
    said = {thing: one for thing, one in journal.things.items() if thing.startswith("s")}
    made = []
    for one in found.segments:
        if one.task == SEGMENT_TASK:
            edit = said.pop(f"s{one.first}-{one.end}-{one.channel}", None)
            made.append(_segment(one.first, one.end, one.channel, one.label, one.score, edit))
    if not made:
        step = round(SEGMENT_S * found.fs)
        for first in range(0, samples, step):
            end = min(samples, first + step)
            made.append(_segment(first, end, channel, None, None, said.pop(f"s{first}-{end}-{channel}", None)))
    for edit in said.values():
        value = edit.value
        made.append(_segment(value["first"], value["end"], value["channel"], None, None, edit))
    return sorted(made, key=lambda one: (one.first, one.channel))


def _segment(
    first: int, end: int, channel: str, label: str | None, score: float | None, edit: Operation | None
) -> Segment:
    return Segment(
        first,
        end,
        channel,
        label,
        score,
        None if edit is None else edit.act == "artefact",
        edit.who if edit else None,
        edit.at if edit else None,
        edit.seq if edit else 0,
    )
