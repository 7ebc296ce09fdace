"""What the outbox's tests are made of: clocks moved by hand, parcels of a known size."""

from __future__ import annotations

from edge_agent.outputs.outbox import RANKS, Bounds, Outbox, Parcel

BEATS, EVENTS, ALARMS = range(len(RANKS))
WIDE = Bounds(max_bytes=10_000_000, max_age_s=3600)
NOW = 1_800_000_000.5
"""A time of day well after 2020."""


class Clock:
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.day, self.count = NOW, 5000.25

    def go_on(self, seconds: float) -> None:
        self.day += seconds
        self.count += seconds


def parcel(number: int, rank: int = EVENTS, size: int = 76) -> Parcel:
    """Of 100 bytes, as the outbox counts: the payload and 24 for the row."""
    return Parcel(number, rank, "t", b"x" * (size - 1))


def numbers(box: Outbox) -> list[int]:
    return [one.number for one in box.read(0, 10_000)]
