"""What a store knows of one model, and how it is kept: twice, each with a digest, and found again from the versions themselves.

    NAME/
      state.json        what counts
      state.json.copy   the same, written first: it is never older than what counts

The highest version that was ever here must not be lost with a bad block: it is what keeps an old model with a known fault from coming
back as a new one. So where one file is damaged or gone the other speaks, and where both are, the versions' own folders do, and nothing
is active until somebody says so. A state is there before the first version is: versions without any are damage, too.

The copy is also the room that a full disk leaves: it goes when there is none, so that a model can be removed, rolled back or fail its
trial, and comes back when there is room again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_agent import plain_file
from edge_agent.inference.artifact import MAX_MANIFEST_BYTES, version_key
from edge_agent.inference.installed import durable
from edge_agent.inference.manifest import VERSION
from edge_agent.section import first_in_words

SCHEMA = "edge-agent/model-state/1"
STATE, COPY = "state.json", "state.json.copy"
MOST_STATE_BYTES = 1 << 18
FULL = (errno.ENOSPC, errno.EDQUOT)
_VERSION = re.compile(VERSION)


class _Strict(BaseModel):
    # Built when a state is first read: most agents have no store, and their start need not pay for it.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Tried(_Strict):
    """A trial that is not over."""

    since: str = Field(description="UTC, when it was activated.")
    starts: int = Field(default=0, ge=0, description="Times that an agent began to run it without having ended well.")


class State(_Strict):
    """What is known of one model."""

    schema_: str = Field(default=SCHEMA, alias="schema", pattern=rf"^{SCHEMA}$")
    active: str | None = Field(
        default=None, pattern=VERSION, description="null: what lies under the store, if anything."
    )
    before: tuple[str | None, ...] = Field(default=(), description="Active before it, the last one last.")
    highest: str | None = Field(default=None, pattern=VERSION, description="Ever installed here.")
    seen: dict[str, str] = Field(default_factory=dict, description="Version to digest, of all that were installed.")
    failed: dict[str, str] = Field(default_factory=dict, description="Version to why its trial failed.")
    trial: Tried | None = Field(default=None, description="Of the active version; null once it has passed.")
    digest: str | None = Field(default=None, description="SHA-256 of all the rest; null in what older agents wrote.")

    def own_digest(self) -> str:
        return hashlib.sha256(self.model_dump_json(by_alias=True, exclude={"digest"}).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Kept:
    """A state as it was found."""

    state: State
    damage: str | None = None
    """What was wrong with the file that counts, in one line."""
    lost: bool = False
    """The copy is no better: this is what the versions' folders say, and nothing of it is active."""


def is_kept(folder: Path) -> bool:
    """Whether a model of this name was ever installed: its state says so, or, with no state left, its versions."""
    return any(os.path.lexists(folder / name) for name in (STATE, COPY)) or any(True for _ in _places(folder))


def keep(folder: Path, state: State) -> State:
    """On the disk, whole, when this returns; OSError where it cannot be."""
    state = state.model_copy(update={"digest": None})
    state = state.model_copy(update={"digest": state.own_digest()})
    data = state.model_dump_json(by_alias=True, indent=1).encode() + b"\n"
    for place in (folder / COPY, folder / STATE):
        # No file takes a folder's place; whoever made it may still look into it.
        if place.is_dir() and not place.is_symlink():
            durable.rename(place, place.with_name(f"{place.name}.folder-{secrets.token_hex(4)}"))
    try:
        durable.replace_file(folder / COPY, data)
        durable.replace_file(folder / STATE, data)
    except OSError as error:
        if error.errno not in FULL:
            raise
        with contextlib.suppress(FileNotFoundError):
            (folder / COPY).unlink()
        durable.replace_file(folder / STATE, data)
    return state


def keep_copy(folder: Path) -> None:
    """Once there is room again; that there is none is no fault."""
    with contextlib.suppress(OSError):
        if (folder / STATE).is_file() and not (folder / COPY).is_file():
            durable.replace_file(folder / COPY, (folder / STATE).read_bytes())


def kept(folder: Path) -> Kept:
    """The state that counts, or the best that is left of it. Nothing was ever installed: an empty one."""
    found = _read(folder / STATE)
    if isinstance(found, State):
        return Kept(found)
    copy = _read(folder / COPY)
    if isinstance(copy, State):
        return Kept(copy, found or "is missing")
    if found is None and copy is None and not any(True for _ in _places(folder)):
        return Kept(State())
    return Kept(_from_folders(folder), found or "is missing", lost=True)


def _read(path: Path) -> State | str | None:
    """None: not there. Text: why it cannot be believed."""
    try:
        raw = plain_file.read(path, MOST_STATE_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    try:
        state = State.model_validate_json(raw)
    except ValidationError as error:
        return f"is damaged ({first_in_words(error, 'state')})"
    if state.digest is not None and state.digest != state.own_digest():
        return "is damaged (its digest is of something else)"
    return state


def _from_folders(folder: Path) -> State:
    seen = dict(sorted(_versions(folder), key=lambda one: version_key(one[0])))
    # One whose manifest is damaged, too, was here all the same.
    return State(highest=max((place.name for place in _places(folder)), key=version_key, default=None), seen=seen)


def _places(folder: Path) -> Iterator[Path]:
    """The folders of versions."""
    with contextlib.suppress(OSError):
        for place in folder.iterdir():
            if _VERSION.fullmatch(place.name) and os.path.lexists(place / "manifest.json"):
                yield place


def _versions(folder: Path) -> Iterator[tuple[str, str]]:
    """Those whose manifest says the same name and version as its place does, with the digest of that manifest."""
    for place in _places(folder):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            raw = plain_file.read(place / "manifest.json", MAX_MANIFEST_BYTES)
            about = json.loads(raw)
            if (about["name"], about["version"]) == (folder.name, place.name):
                yield place.name, hashlib.sha256(raw).hexdigest()
