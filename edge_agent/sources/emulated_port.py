"""An emulated board on a pseudo-terminal: at its own baud and its own pace, with faults on request.

The kernel says when nobody has the port open; a board then goes on measuring, and its samples are lost, as with a USB port
that nobody reads. What a reader is too slow to take is lost too, once the line's buffer is full, and counted.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
import tty
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from edge_agent.errors import OutputError
from edge_agent.sources.emulated import Emulated, Wearer
from edge_agent.sources.line_faults import Damage, Faults
from edge_agent.sources.simulated.script import Script

TICK_S = 0.005
LONGEST_STALL_S = 2.0
"""A busy machine may hold this program up: what a wire would have carried meanwhile comes at once, as from a driver."""
SETTLE_S = 0.2
"""From the opening of the port to the first byte: a reader sets its line up, and throws away what was there before."""
MOST_WAITING = 1 << 16
"""Bytes that wait for the line; beyond that frames are lost, as in a board."""
_BITS_PER_BYTE = 10  # 8N1
_PART = 64
"""Samples made at once when there is no hurry and no pace."""


class Port:
    """The board's end of a pty, and the path of the other."""

    def __init__(self, link: Path | None) -> None:
        self._link = link
        self._master = -1
        self.path = ""
        self.plug_in()

    def plug_in(self) -> None:
        self._master, slave = os.openpty()
        tty.setraw(slave)  # what comes before the reader has set its line up must not be echoed
        self.path = os.ttyname(slave)
        os.close(slave)  # from now on the kernel says when nobody has it open
        os.set_blocking(self._master, False)
        if self._link is not None:
            self._place_link(self._link)

    def _place_link(self, link: Path) -> None:
        if link.is_symlink() and not str(link.readlink()).startswith("/dev/pts/"):
            self.unplug()
            raise OutputError(f"{link}: is there already, and is somebody's link", remedy="name another --link")
        if link.exists() and not link.is_symlink():
            self.unplug()
            raise OutputError(f"{link}: is there already, and is no link", remedy="name another --link")
        try:
            with contextlib.suppress(FileNotFoundError):
                link.unlink()
            link.symlink_to(self.path)
        except OSError as error:
            self.unplug()
            raise OutputError(f"{link}: {error.strerror}", remedy="name another --link") from None

    def unplug(self) -> None:
        if self._master < 0:
            return
        os.close(self._master)
        self._master = -1
        if self._link is not None and self._link.is_symlink() and str(self._link.readlink()) == self.path:
            self._link.unlink()

    @property
    def there(self) -> bool:
        return self._master >= 0

    def opened(self) -> bool:
        """Whether someone has the other end open."""
        poll = select.poll()
        poll.register(self._master, 0)  # a hang-up is always told
        return not any(events & select.POLLHUP for _, events in poll.poll(0))

    def read(self) -> bytes:
        try:
            return os.read(self._master, 4096)
        except (BlockingIOError, OSError):
            return b""

    def write(self, data: bytes) -> int:
        """How much of it went."""
        try:
            return os.write(self._master, data)
        except (BlockingIOError, OSError):
            return 0


@dataclass(slots=True)
class Sent:
    """What came of it."""

    samples: int = 0
    """Made by the board and put on the line, whole."""
    bytes_sent: int = 0
    unheard: int = 0
    """Samples while nobody had the port open, or it was unplugged."""
    overrun: int = 0
    """Samples lost because the line was full."""
    seconds: float = 0.0


@dataclass
class EmulatedPort:
    """The board, its patient, its line."""

    board: Emulated
    script: Script
    seed: int = 0
    forever: bool = True
    link: Path | None = None
    baud: int | None = None
    speed: float | None = 1.0
    """Seconds of signal per second; None for as fast as the reader takes it, every sample kept for it."""
    faults: Faults = field(default_factory=Faults)
    sent: Sent = field(default_factory=Sent)
    port: Port = field(init=False)
    damage: Damage = field(init=False)
    _wearer: Wearer | None = None
    _out: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self.damage = Damage(self.faults)
        self.port = Port(self.link)

    @property
    def path(self) -> str:
        """What a reader should open."""
        return str(self.link) if self.link is not None else self.port.path

    def close(self) -> None:
        self.port.unplug()

    def run(self, seconds: float | None, stop: Event) -> Sent:
        """Until ``seconds`` of signal were made, the script is over, or ``stop``."""
        if self.speed is None:
            self._run_unpaced(seconds, stop)
        else:
            self._run_paced(seconds, self.speed, stop)
        return self.sent

    # -- as fast as it goes ------------------------------------------------------------------------------------------

    def _run_unpaced(self, seconds: float | None, stop: Event) -> None:
        """Everything that is made arrives: the board waits for its reader."""
        while not stop.is_set():
            if not self.port.opened():
                stop.wait(TICK_S)
                continue
            self._listen()
            if not self.board.streaming:
                self._push(len(self._out))
                stop.wait(TICK_S)
                continue
            fs = self.board.board.fs
            if self._wearer is None or self._wearer.fs != fs:
                stop.wait(SETTLE_S)
                self._wearer = Wearer(fs, self.script, self.seed, forever=self.forever)
            if not self._out:
                left = None if seconds is None else round(seconds * fs) - self._wearer.sent
                if (left is not None and left <= 0) or not self._make(_PART if left is None else min(_PART, left)):
                    return
            self._push(len(self._out))
            if self._out:
                stop.wait(0.001)

    # -- at the board's pace -----------------------------------------------------------------------------------------

    def _run_paced(self, seconds: float | None, speed: float, stop: Event) -> None:
        rate = (self.baud or self.board.board.baud) / _BITS_PER_BYTE * speed
        settled = began = allowance = 0.0
        was_open = False
        last = time.monotonic()
        while not stop.is_set():
            now = time.monotonic()
            self._plug((now - began) * speed if began else 0.0)
            is_open = self.port.there and self.port.opened()
            if is_open and not was_open:
                settled = now + SETTLE_S
            was_open = is_open
            if self.port.there:
                self._listen()  # also to the last words of a reader that has just closed it
            ready = is_open and now >= settled
            allowance = min(allowance + (now - last) * rate, rate * LONGEST_STALL_S)
            last = now
            board = self.board.board
            if self.board.streaming and ready and (self._wearer is None or self._wearer.fs != board.fs):
                self._wearer, began = Wearer(board.fs, self.script, self.seed, forever=self.forever), now
            if began and self._wearer is not None:
                self.sent.seconds = (now - began) * speed
                made = self._wearer.sent
                due = int(self.sent.seconds * self._wearer.fs * (1 + self.faults.drift_ppm * 1e-6)) - made
                if seconds is not None:
                    due = min(due, round(seconds * self._wearer.fs) - made)
                    if due <= 0 and self.sent.seconds >= seconds and not self._out:
                        return
                if due > 0 and not self._make(due, heard=ready) and not self._out:
                    return
            if not is_open:
                self._out.clear()
            elif self.damage.stalled(self.sent.seconds):
                allowance = 0.0
            elif self._out:
                allowance -= self._push(int(allowance))
            if not self._out:
                allowance = min(allowance, rate * 4 * TICK_S)  # a wire that was idle is no faster for it
            stop.wait(TICK_S)

    def _plug(self, seconds: float) -> None:
        faults = self.faults
        if not faults.unplug_at_s or not seconds:
            return
        gone = faults.unplug_at_s <= seconds < faults.unplug_at_s + (faults.back_after_s or float("inf"))
        if gone and self.port.there:
            self.port.unplug()
        elif not gone and not self.port.there:
            self.port.plug_in()
            self.board.power_on()

    # -- both --------------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        data = self.port.read()
        if data:
            self._out += self.board.hear(data)

    def _make(self, count: int, *, heard: bool = True) -> bool:
        """Samples to frames to the line. False when the script is over."""
        assert self._wearer is not None
        parts = self._wearer.samples(self.board.board, count)
        for values, lead_off in parts:
            number = values.shape[1]
            if not self.board.streaming:
                self.sent.unheard += number
                continue
            frames = self.board.frames(values, lead_off, self._wearer.heart_rate)
            if not heard:
                self.sent.unheard += number
            elif len(self._out) + len(frames) > MOST_WAITING:
                self.sent.overrun += number
            else:
                self.sent.samples += number
                self._out += self.damage.spoil(frames)
        return bool(parts)

    def _push(self, most: int) -> int:
        """Put at most this many bytes on the line."""
        sent = 0
        for piece in self.damage.pieces(bytes(self._out[:most])):
            went = self.port.write(piece)
            sent += went
            if went < len(piece):
                break
            if self.faults.split:
                time.sleep(0.0005)
        del self._out[:sent]
        self.sent.bytes_sent += sent
        return sent
