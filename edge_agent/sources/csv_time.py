"""The column of times in a CSV file: seconds, milliseconds, dates or times of day, and the rate and the gaps that they show."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import SourceError
from edge_agent.sources.csv_layout import plain
from edge_agent.sources.recording import Run, runs_of

Times = NDArray[np.float64]


class FallsBack(SourceError):
    """Times that do not rise, and at which row."""

    __str__ = SourceError.__str__

    def __init__(self, what: str, row: int, *, remedy: str) -> None:
        super().__init__(what, remedy=remedy)
        self.row = row


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_S = (5e8, 5e9)
"""Numbers that can be seconds since 1970: 1985 to 2128."""
HOLE = 1.6
"""A step of more samples than this is a hole: times rounded to milliseconds make steps of up to 1.4 at 360 Hz."""
CREEP = 0.01
_CLOCK = re.compile(r"\[?(?:(\d+):)?(\d{1,2}):(\d{2}(?:[.,]\d+)?)(?: (\d{2})/(\d{2})/(\d{4}))?\]?")


def seconds_of(text: str) -> float:
    """Of a date (since 1970, UTC if it does not say otherwise) or of a time of day."""
    text = plain(text)
    found = _CLOCK.fullmatch(text)
    if found is None:
        moment = datetime.fromisoformat(text.replace(",", "."))
        return (moment.replace(tzinfo=moment.tzinfo or UTC) - EPOCH) / timedelta(seconds=1)
    hours, minutes, seconds, day, month, year = found.groups()
    if float(seconds.replace(",", ".")) >= 60 or (hours is not None and int(minutes) >= 60):
        raise ValueError(f"{text}: no such time")
    time_of_day = int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds.replace(",", "."))
    if year is None:
        return time_of_day
    return (datetime(int(year), int(month), int(day), tzinfo=UTC) - EPOCH) / timedelta(seconds=1) + time_of_day


def over_midnight(times: Times) -> Times:
    """Times of day begin again at midnight."""
    return times + 86400.0 * np.cumsum(np.concatenate([[0], np.diff(times) < -43200.0]))


def in_seconds(times: Times, factor: float) -> Times:
    """``factor`` 0: not said. Seconds then, unless only another unit makes sense of them."""
    if factor:
        return times * factor
    first = abs(float(times[0])) if times.size else 0.0
    for divisor in (1e3, 1e6, 1e9):
        if EPOCH_S[0] * divisor < first < EPOCH_S[1] * divisor:
            return times / divisor
    steps = np.diff(times)
    middle = float(np.median(steps)) if steps.size else 0.0
    # Nothing that is worth watching comes less than ten times a second.
    return times / 1e3 if 0.25 <= middle <= 20 and np.isfinite(times).all() else times


def began(times: Times) -> datetime | None:
    return EPOCH + timedelta(seconds=float(times[0])) if EPOCH_S[0] < float(times[0]) < EPOCH_S[1] else None


def rate_and_runs(times: Times, told: float | None, where: str) -> tuple[float, tuple[Run, ...]]:
    """A rate from outside stands in for times that are no use; against good ones it is a mistake."""
    try:
        fs, runs = _measured(times, where)
    except SourceError:
        if told is None:
            raise
        return told, ((0, times.size),)
    if told is not None and abs(fs / told - 1) > 0.01:
        raise SourceError(
            f"{where}: its time column says {fs:g} Hz, it was told {told:g}",
            remedy="leave out the rate; or name the column for its unit: time_ms, time_us",
        )
    return fs, runs


def _measured(times: Times, where: str) -> tuple[float, tuple[Run, ...]]:
    steps = np.diff(times)
    if steps.size == 0:
        raise SourceError(
            f"{where}: has one row, and no rate can be told from that",
            remedy="was it fetched whole? or give it: --fs RATE",
        )
    rising = steps > 0
    if not rising.all():
        rate = _rate_given(steps[rising])
        raise FallsBack(
            f"{where}: its time column does not rise steadily",
            int(np.argmin(rising)) + 1,
            remedy=f"mend it, or give the rate instead: {rate}",
        )
    holes = np.flatnonzero(steps > HOLE * float(np.mean(np.sort(steps)[: max(1, steps.size * 9 // 10)])))
    edges = np.concatenate([[0], holes + 1, [times.size]])
    firsts, lengths = edges[:-1], np.diff(edges)
    # From end to end of each stretch: the rounding of single times cancels out.
    spans = times[edges[1:] - 1] - times[firsts]
    counted = float((lengths - 1).sum())
    fs = counted / float(spans.sum()) if spans.sum() > 0 else 0.0
    within = np.delete(steps, holes) * fs
    # Against the even grid of each stretch: steps that grow little by little are uneven, too.
    aside = times - np.repeat(times[firsts], lengths) - (np.arange(times.size) - np.repeat(firsts, lengths)) / (fs or 1)
    uneven = (np.abs(aside) * fs > 1 + CREEP * np.repeat(lengths, lengths)).any()
    if not fs or within.size == 0 or float(within.max()) > HOLE or uneven or holes.size > 0.02 * steps.size + 1:
        raise SourceError(
            f"{where}: its time column is uneven (steps from {float(steps.min()):.4g} to {float(steps.max()):.4g} s)",
            remedy=f"resample it evenly, or give the rate to ignore the times: {_rate_given(steps)}",
        )
    # A whole number if it counts the same samples from end to end: the rest is the rounding of the times.
    whole = round(fs)
    if whole and abs(float(spans.sum()) * whole - counted) < 1 + 0.5 * holes.size:
        fs = float(whole)
    return fs, runs_of((times[firsts] - times[0]).tolist(), lengths.tolist(), fs)


def _rate_given(steps: Times) -> str:
    """The option, with the rate that the times suggest where they do."""
    rate = 1 / float(np.median(steps)) if steps.size else 0.0
    return f"--fs {rate:.4g} (by their median step)" if 1 <= rate < 1e5 else "--fs RATE"
