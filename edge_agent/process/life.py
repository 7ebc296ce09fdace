"""What systemd is told of the agent: whether it lives, and in words how it is.

The watchdog is fed only while work is done: every stream that is online must have brought samples through its pipeline, and the
models' thread must have taken windows if any wait, since the last time it was fed. A board that was unplugged is no reason to be
killed: its stream is not online, and starting again would not bring it back. A model that hangs is one, although detection and
alarms go on without it: a thread inside a library cannot be ended in any other way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class StreamNow:
    state: str
    samples: int
    reason: str = ""
    """Why it is not online."""


@dataclass(frozen=True, slots=True)
class ModelsNow:
    taken: int
    """Windows that the models' thread has begun."""
    waiting: int


@dataclass(slots=True)
class Life:
    """Asked a few times a second, by one thread."""

    _samples: dict[str, int] = field(default_factory=dict)
    _taken: int = -1

    def advances(self, streams: Mapping[str, StreamNow], models: ModelsNow) -> bool:
        """Whether everything that should move has moved since this last was true."""
        if any(one.state == "online" and one.samples == self._samples.get(name) for name, one in streams.items()):
            return False
        if models.waiting and models.taken == self._taken:
            return False
        self._samples = {name: one.samples for name, one in streams.items()}
        self._taken = models.taken
        return True


def in_words(streams: Mapping[str, StreamNow], models: Sequence[str], *, broker: str, stuck_s: float = 0.0) -> str:
    """For ``systemctl status``: a line."""
    online = sum(one.state == "online" for one in streams.values())
    said = [f"{online} of {len(streams)} {'stream' if len(streams) == 1 else 'streams'} online"]
    for name, one in streams.items():
        if one.state != "online":
            why = f" ({_line(one.reason)})" if one.reason else ""
            said.append(f"{name} {one.state}{why}")
    said.append(f"{len(models)} {'model' if len(models) == 1 else 'models'}")
    said.append(f"broker {broker}")
    if stuck_s >= 1:
        said.append(f"nothing has moved for {stuck_s:.0f} s")
    return "; ".join(said)


def _line(text: str) -> str:
    """systemd reads up to the end of the line, and nobody reads for ever."""
    words = " ".join(text.split())
    return words if len(words) <= 100 else words[:97] + "..."
