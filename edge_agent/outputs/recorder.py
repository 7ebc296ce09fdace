"""The recorder: the last hours of signal with what was found in it, as WFDB records on disk, bounded.

For the review page and for retraining. It records everything, or only what surrounds an alarm. Blocks and events are handed over
without waiting; a thread of its own writes. A disk that fails costs recordings, counted, and nothing else.

    <folder>/<stream>/20261121T101500Z-123456.hea, .dat, .edge      one segment: its begin in UTC and its first sample
"""

from __future__ import annotations

import errno
import hashlib
import heapq
import logging
import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from edge_agent import events
from edge_agent.errors import OutputError
from edge_agent.journey import Block
from edge_agent.outputs.mit_annotations import Annotation
from edge_agent.outputs.segment import FRESH, Place, Segment, is_torn, repair
from edge_agent.outputs.settings import RecorderConfig
from edge_agent.sources.base import StreamInfo

log = logging.getLogger(__name__)

SEGMENT_S = 600.0
"""The longest segment, in both modes: what a damaged file costs at the most, and what the bounds remove at a time."""
LONGEST_GAP_S = 10.0
"""A longer one ends the segment instead of being written as missing samples."""
SETTLED_S = 5.0
"""Of the signal, before annotations are written: a beat's class comes after the beat."""
RAISED_WITHIN_S = 10.0
"""Of its definition, an alarm is: the signal before it is counted from there, and not from the news of it."""
SYNC_S = 30.0
RETRY_S = 60.0
IN_QUEUE = 5000
ASIDE = ".damaged"
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
_OURS = re.compile(r"\d+T\d{6}Z-\d+")
"""How a segment is called. What is called otherwise in these folders is somebody else's: neither bounded nor repaired."""

Item = tuple[str, StreamInfo, Block] | events.Event


@dataclass(slots=True)
class Counters:
    segments: int = 0
    dropped: int = 0
    """Blocks and events that the queue or the disk did not take."""
    repaired: int = 0
    removed: int = 0
    """Segments that a bound cost."""


@dataclass(slots=True)
class _Stream:
    """What the writing thread knows of one stream."""

    info: StreamInfo
    recent: deque[Block] = field(default_factory=deque)
    """In events mode: the signal before an alarm."""
    keep_until: int = -1
    """In events mode: the sample up to which is recorded."""
    segment: Segment | None = None
    full: list[Segment] = field(default_factory=list)
    """They get no more signal, but the class of their last beat may be on its way."""
    waiting: list[Annotation] = field(default_factory=list)
    """A heap, not written yet."""
    codes: dict[tuple[int, int], str] = field(default_factory=dict)
    """Classes of beats whose annotation waits."""
    bad: dict[int, int] = field(default_factory=dict)
    end: int = 0

    @property
    def open(self) -> list[Segment]:
        return [*self.full, *([self.segment] if self.segment is not None else [])]


class Recorder:
    def __init__(self, config: RecorderConfig) -> None:
        self._config = config
        self._queue: deque[Item] = deque()
        self._ready = threading.Condition()
        self._stopping = False
        self._streams: dict[str, _Stream] = {}
        self.fault: str | None = None
        """Why the disk takes no recordings just now."""
        self._retry_at = 0.0
        self.counters = Counters()
        try:
            config.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise OutputError(
                    f"{config.folder}: recordings cannot be written there ({error.strerror or error})",
                    remedy="check recorder.folder, or leave the [recorder] table out",
                ) from None
            self._say_fault(error)  # the disk's trouble, which may pass, and nothing wrong with the folder
        self._mend()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    # -- from any thread -----------------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def block(self, stream: str, info: StreamInfo, block: Block) -> None:
        self._put((stream, info, block))

    def event(self, event: events.Event) -> None:
        if isinstance(
            event, events.Beat | events.Verdict | events.Rhythm | events.Quality | events.Alarm | events.Mark
        ):
            self._put(event)

    def _put(self, item: Item) -> None:
        with self._ready:
            if len(self._queue) >= IN_QUEUE:
                self.counters.dropped += 1
                return
            self._queue.append(item)
            self._ready.notify()

    def stop(self, timeout_s: float = 2.0) -> None:
        with self._ready:
            self._stopping = True
            self._ready.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    # -- the writing thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._ready:
                while not self._queue and not self._stopping:
                    self._ready.wait()
                items, self._queue = self._queue, deque()
                stopping = self._stopping
            for item in items:
                self._guarded(item)
            if stopping:
                for name, stream in self._streams.items():
                    self._end_guarded(name, stream)
                return

    def _guarded(self, item: Item) -> None:
        """A disk that fails costs this segment; another one is tried after a while."""
        try:
            if isinstance(item, events.Event):
                self._note(item)
            else:
                self._signal(*item)
        except OSError as error:
            self.counters.dropped += 1
            self._say_fault(error)
            self._retry_at = time.monotonic() + RETRY_S
            for stream in self._streams.values():
                self._abandon(stream)
        except Exception:  # what is strange about one block or event must not end the recording of all
            self.counters.dropped += 1
            log.exception("recording met an unexpected fault")

    def _say_fault(self, error: OSError) -> None:
        why = error.strerror or str(error)
        if self.fault is None:
            log.error("%s: cannot be recorded (%s); tried again later", self._config.folder, why)
        self.fault = why

    def _signal(self, name: str, info: StreamInfo, block: Block) -> None:
        stream = self._streams.setdefault(name, _Stream(info))
        stream.end = block.end
        if self._config.mode == "everything" or block.first < stream.keep_until:
            self._write(name, stream, block)
        else:
            stream.recent.append(block)
            oldest = block.end - round((self._config.before_s + RAISED_WITHIN_S) * info.fs)
            while stream.recent and stream.recent[0].end < oldest:
                stream.recent.popleft()
        self._settle(stream, stream.end - round(SETTLED_S * info.fs))

    def _write(self, name: str, stream: _Stream, block: Block) -> None:
        if self.fault is not None and time.monotonic() < self._retry_at:
            self.counters.dropped += 1
            return
        segment, fs = stream.segment, stream.info.fs
        if segment is not None and (
            segment.seconds >= SEGMENT_S or block.first - segment.end > LONGEST_GAP_S * fs or block.first < segment.end
        ):
            stream.full.append(segment)
            segment = stream.segment = None
        if segment is None:
            segment = stream.segment = self._begin(name, stream, block.first)
        segment.append(block.first, block.values)
        now = time.monotonic()
        if now - segment.synced_at > SYNC_S:
            segment.synced_at = now
            segment.sync()
        if self.fault is not None:
            log.info("%s: recording again", self._config.folder)
            self.fault = None

    def _begin(self, name: str, stream: _Stream, first: int) -> Segment:
        fs = stream.info.fs
        self._bound(round(SEGMENT_S * fs) * len(stream.info.signals) * 2)
        # The end of the stream is now; the segment's begin so many samples earlier.
        began = datetime.fromtimestamp(time.time() - (stream.end - first) / fs, UTC)
        if stream.info.began is not None:
            began = datetime.fromtimestamp(stream.info.began.timestamp() + first / fs, UTC)
        base = self._config.folder / _safe(name) / f"{began:%Y%m%dT%H%M%SZ}-{first}"
        self.counters.segments += 1
        return Segment(Place(base), stream.info.signals, fs, first, began)

    def _end_guarded(self, name: str, stream: _Stream) -> None:
        try:
            stream.full, stream.segment = stream.open, None
            self._settle(stream, stream.end + 1)
        except OSError as error:
            log.error("%s: the last recording of %s is not whole (%s)", self._config.folder, name, error)

    def _abandon(self, stream: _Stream) -> None:
        for segment in stream.open:
            try:
                if segment.end == segment.first:
                    segment.discard()
                else:
                    segment.close()
            except OSError:
                with suppress(OSError):  # then the next start repairs it
                    repair(segment.place)
        stream.segment = None
        stream.full.clear()

    # -- annotations ---------------------------------------------------------------------------------------------

    def _note(self, event: events.Event) -> None:
        stream = self._streams.get(event.stream)
        if stream is None:
            return
        channels = {signal.name: number for number, signal in enumerate(stream.info.signals)}
        for annotation in _annotations(event, channels, stream):
            heapq.heappush(stream.waiting, annotation)
        if self._config.mode == "events" and isinstance(event, events.Alarm | events.Mark):
            after = round(self._config.after_s * stream.info.fs)
            starts = event.sample >= stream.keep_until
            stream.keep_until = max(stream.keep_until, event.sample + after)
            if starts:
                recent, stream.recent = stream.recent, deque()
                first = event.sample - round(self._config.before_s * stream.info.fs)
                for block in recent:
                    if block.end > first:
                        self._write(event.stream, stream, block)

    def _settle(self, stream: _Stream, before: int) -> None:
        """Write the annotations that nothing can change any more, and close the segments that get no others."""
        oldest = stream.recent[0].first if stream.recent else before
        settled = min(before, max(oldest, stream.keep_until))
        while stream.waiting and stream.waiting[0].sample < settled:
            one = heapq.heappop(stream.waiting)
            code = stream.codes.pop((one.sample, one.channel), one.code) if one.code == "Q" else one.code
            for segment in stream.open:
                if segment.first <= one.sample < segment.end:
                    segment.annotate(Annotation(one.sample, one.channel, code, one.subtype, one.text))
        # A class that came after its beat was written is of no use any more; a slow model would leave one for every beat, for ever.
        for late in [place for place in stream.codes if place[0] < settled]:
            del stream.codes[late]
        last = stream.segment
        if last is not None and self._config.mode == "events" and stream.keep_until <= last.end <= before:
            stream.full.append(last)
            stream.segment = None
        while stream.full and stream.full[0].end <= before:
            stream.full.pop(0).close()

    # -- bounds and repairs --------------------------------------------------------------------------------------

    def _places(self) -> list[Place]:
        """All segments, those set aside among them, in the order in which they were written; none that is being written, and nothing
        that somebody else has put or renamed there."""
        mine = {segment.place.base for stream in self._streams.values() for segment in stream.open}
        found = {Place(header.with_suffix("")) for header in self._config.folder.glob("*/*.hea")}
        for file in self._config.folder.glob(f"*/*{ASIDE}"):
            found.add(Place(file.with_name(file.name.removesuffix(ASIDE)).with_suffix(""), ASIDE))
        ours = (place for place in found if _OURS.fullmatch(place.base.name) and place.base not in mine)
        return sorted(ours, key=_written)

    def _bound(self, expected: int) -> None:
        """Make room for ``expected`` bytes, and let nothing grow too old."""
        places = self._places()
        oldest_ns = time.time_ns() - round(self._config.hours * 3600e9)
        sizes = {place: place.size for place in places}
        growing = sum(segment.place.size for stream in self._streams.values() for segment in stream.open)
        total = sum(sizes.values()) + growing + expected
        for place in places:
            if total <= self._config.max_mb * 1e6 and place.written_ns >= oldest_ns:
                return
            place.remove()
            total -= sizes[place]
            self.counters.removed += 1

    def _mend(self) -> None:
        """What the last run could not close is repaired, or set aside where nothing can be saved. What the disk does not allow just
        now (full, read-only) is left as it is for the next start."""
        for place in self._places():
            if place.aside or not is_torn(place):
                continue
            try:
                if repair(place):
                    self.counters.repaired += 1
                    log.info("%s: was cut off, repaired", place.base)
                    continue
                for ending in ("dat", "edge", "hea"):
                    with suppress(FileNotFoundError):
                        place.file(ending).replace(Place(place.base, ASIDE).file(ending))
                log.warning("%s: was cut off and cannot be repaired; set aside", place.base)
            except OSError as error:
                why = error.strerror or error
                log.warning(
                    "%s: was cut off and cannot be repaired now (%s); the next start tries again", place.base, why
                )
        for left in self._config.folder.glob(f"*/*{FRESH}"):  # of a file that was not replaced any more
            if _OURS.fullmatch(left.name.partition(".")[0]):
                with suppress(OSError):
                    left.unlink()


def _written(place: Place) -> tuple[int, str, int, str]:
    """When it was written; a replay writes many at one tick of the clock, and then the signal's own order holds."""
    began, _, first = place.base.name.partition("-")
    return place.written_ns, began, int(first) if first.isdecimal() else 0, str(place.base)


def _safe(name: str) -> str:
    """A stream's name as a folder's; two names that become alike by that stay apart by their digest."""
    plain = _UNSAFE.sub("_", name) or "_"
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _annotations(event: events.Event, channels: dict[str, int], stream: _Stream) -> Iterator[Annotation]:
    match event:
        case events.Beat():
            yield Annotation(event.sample, channels[event.channel], "Q")
        case events.Verdict(task="ecg-beat", label=str(label)):
            stream.codes[event.sample, channels[event.channel]] = label if label in "NSVFQ" else "Q"
        case events.Rhythm():
            yield Annotation(event.since, channels[event.channel], "+", 0, f"({event.rhythm}")
        case events.Quality():
            channel = channels[event.channel]
            if channel < 4:  # the subtype has room for four
                stream.bad[channel] = 0 if event.good else 1 << channel
                yield Annotation(event.sample, channel, "~", sum(stream.bad.values()))
        case events.Alarm():
            yield Annotation(event.sample, channels.get(event.channel or "", 0), '"', 0, f"{event.kind} {event.state}")
        case events.Mark():
            yield Annotation(event.sample, 0, '"', 0, event.text)
