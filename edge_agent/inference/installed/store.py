"""Where installed models live: several versions of each, one of them active, and what was seen of it.

    STORE/
      NAME/
        state.json      which version is active, which were before it, the highest one seen, what is on trial (and its copy)
        1.2.0/          manifest.json, model.tflite ... as verified when they came
        1.3.0/

``state.json`` is the only pointer there is (``state`` says how it is kept). It is replaced in one step after what it points to is on
the disk, so a power cut or a ``kill -9`` at any moment leaves the old state or the new one. What such an end leaves lying about (a folder
half filled, a version that no state knows) is swept up by whoever next writes. Writers take turns by a lock; readers need none.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edge_agent.errors import ArtifactError, OutputError
from edge_agent.inference.artifact import load, version_key
from edge_agent.inference.installed import durable
from edge_agent.inference.installed.archive import Bundle, take
from edge_agent.inference.installed.signature import Policy
from edge_agent.inference.installed.state import FULL, STATE, Kept, State, Tried, is_kept, keep, keep_copy, kept
from edge_agent.inference.manifest import VERSION

log = logging.getLogger(__name__)

INCOMING, OUTGOING = ".incoming-", ".outgoing-"
KEEP_VERSIONS = 8
"""Of one model; the oldest that nobody goes back to make room."""
KEEP_BEFORE = 8
KEEP_SEEN = 256
LOCK_WAIT_S = 10.0
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_VERSION = re.compile(VERSION)


@dataclass(frozen=True, slots=True)
class Underneath:
    """The model of the same name that came with the package, or lies in models_dir."""

    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class Installed:
    name: str
    version: str
    digest: str
    new: bool
    """False: this very model was there already."""
    made_room: tuple[str, ...] = ()
    """Versions that went."""


Prove = Callable[[Path], object]
"""Runs a model in a folder on its golden vectors; raises what is wrong with it."""


def now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


class Store:
    """Nothing is created before something is installed."""

    def __init__(self, folder: Path, *, lock_wait_s: float = LOCK_WAIT_S) -> None:
        self.folder = folder
        self._lock_wait_s = lock_wait_s

    # -- reading ---------------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Models that were ever installed."""
        try:
            there = [path.name for path in self.folder.iterdir()]
            return sorted(name for name in there if _NAME.fullmatch(name) and is_kept(self.folder / name))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise OutputError(
                f"{self.folder}: the store cannot be read ({error.strerror or error})",
                remedy="it must belong to the account that the agent runs under",
            ) from None

    def state(self, name: str) -> State:
        """What counts; its copy where it is damaged. ArtifactError where both are."""
        found = self.kept(name)
        if found.lost:
            raise ArtifactError(
                f"{self.folder / name}: {STATE} {found.damage}, and so is its copy; nothing of it is active",
                remedy=f"activate a version again: edge-agent models activate {name} --store {self.folder}",
            )
        return found.state

    def kept(self, name: str) -> Kept:
        """The same with what is wrong with it; never raises."""
        return kept(self.folder / name)

    def versions(self, name: str, state: State | None = None) -> list[str]:
        """Those that are there, the oldest first."""
        state = self.kept(name).state if state is None else state
        there = [version for version in state.seen if (self.place(name, version) / "manifest.json").is_file()]
        return sorted(there, key=version_key)

    def place(self, name: str, version: str) -> Path:
        return self.folder / name / version

    # -- installing ------------------------------------------------------------------------------------------------

    def install(
        self,
        bundle: Bundle,
        policy: Policy,
        *,
        prove: Prove,
        underneath: Callable[[str], Underneath | None],
        allow_downgrade: bool = False,
    ) -> Installed:
        """Take a model in. It is there, verified and on the disk, or nothing has changed. It is not active by that."""
        with self._writing():
            incoming = self.folder / f"{INCOMING}{secrets.token_hex(4)}"
            try:
                durable.make_folder(incoming)
                manifest = take(bundle, incoming, policy)
                name, version = manifest.name, manifest.version
                digest = hashlib.sha256((incoming / "manifest.json").read_bytes()).hexdigest()
                found = self.kept(name)
                state = found.state
                _acceptable(bundle.where, name, version, digest, state, underneath(name), allow_downgrade)
                if state.seen.get(version) == digest and _whole(self.place(name, version), digest):
                    if found.lost:
                        self._write(name, state)
                    return Installed(name, version, digest, new=False)
                try:
                    prove(incoming)
                except ArtifactError as error:  # the folder's name is nobody's business
                    raise ArtifactError(error.what.replace(str(incoming), bundle.where), remedy=error.remedy) from None
                place = self.place(name, version)
                durable.make_folder(place.parent)
                if not is_kept(place.parent):
                    self._write(name, State())  # so that a version without any state is damage, and never one cut off
                for each in place.parent.iterdir():  # of an installation that was cut off, or damaged since
                    unknown = each.name not in state.seen and not found.lost
                    if _VERSION.fullmatch(each.name) and (each == place or unknown):
                        self._away(each)
                durable.rename(incoming, place)
                durable.sync_folder(place.parent)
                seen = {**{key: each for key, each in state.seen.items() if key != version}, version: digest}
                while len(seen) > KEEP_SEEN:
                    del seen[next(key for key in seen if key not in (version, state.active, *state.before))]
                highest = max(version, state.highest or version, key=version_key)
                failed = {key: why for key, why in state.failed.items() if key in seen}
                state = state.model_copy(update={"seen": seen, "highest": highest, "failed": failed})
                self._write(name, state)
                # What was active is not known where the state was lost: nothing of it goes.
                room = () if found.lost else self._make_room(name, state, version)
                return Installed(name, version, digest, new=True, made_room=room)
            except OSError as error:
                if isinstance(error, OutputError):
                    raise
                raise self._cannot(error) from None
            finally:
                shutil.rmtree(incoming, ignore_errors=True)

    def _make_room(self, name: str, state: State, version: str) -> tuple[str, ...]:
        wanted = {version, state.active, *state.before[-1:]}
        there = self.versions(name, state)
        going = [one for one in there if one not in wanted][: max(0, len(there) - KEEP_VERSIONS)]
        for one in going:
            self._away(self.place(name, one))
        return tuple(going)

    # -- what is active --------------------------------------------------------------------------------------------

    def activate(
        self,
        name: str,
        version: str,
        *,
        underneath: Underneath | None = None,
        allow_downgrade: bool = False,
        on_trial: bool = True,
    ) -> State:
        """From the next reload or start on. The version before it comes back if the trial fails."""
        with self._changing(name) as state:
            there = self.versions(name, state)
            if version not in there:
                if version == state.active:
                    raise ArtifactError(f"{self.place(name, version)}: its folder is gone", remedy=gone(name))
                raise ArtifactError(
                    f"{self.folder / name}: version {version} is not installed",
                    remedy=f"there are: {', '.join(there) or 'none'}",
                )
            if state.active == version:
                if on_trial or state.trial is None:
                    return state
                return self._write(name, state.model_copy(update={"trial": None}))
            floor = _floor(state, underneath)
            if floor is not None and version_key(version) < version_key(floor) and not allow_downgrade:
                raise ArtifactError(
                    f"{self.place(name, version)}: is older than {floor}, which was here already",
                    remedy=f"edge-agent models rollback {name} goes back to what was active before;"
                    " --allow-downgrade activates an older one nevertheless",
                )
            failed = {key: why for key, why in state.failed.items() if key != version}
            trial = Tried(since=now()) if on_trial else None
            # What did not pass its own trial is nothing to go back to.
            before = state.before if state.trial is not None else _once(state.before, state.active)
            changes = {"active": version, "before": before, "trial": trial, "failed": failed}
            return self._write(name, state.model_copy(update=changes))

    def rollback(self, name: str) -> State:
        """To what was active before; what lies underneath comes last."""
        with self._changing(name) as state:
            if state.active is None:
                raise ArtifactError(f"{self.folder / name}: no installed version is active; nothing to go back from")
            return self._write(name, self._gone_back(name, state))

    def _gone_back(self, name: str, state: State) -> State:
        there = self.versions(name, state)
        before = [one for one in state.before if one is None or one in there]
        active = before.pop() if before else None
        return state.model_copy(update={"active": active, "before": tuple(before), "trial": None})

    def remove(self, name: str, version: str | None = None) -> list[str]:
        """One version, or all; what was seen of them stays known. Returns those that went."""
        with self._changing(name) as state:
            gone = self.versions(name, state)
            if version is None:
                self._remove_all(name, state)
                return gone
            if version == state.active:
                raise ArtifactError(
                    f"{self.place(name, version)}: is active",
                    remedy=f"edge-agent models rollback {name} first, or remove them all: edge-agent models remove {name}",
                )
            if version not in gone:
                raise ArtifactError(
                    f"{self.folder / name}: version {version} is not installed",
                    remedy=f"there are: {', '.join(gone) or 'none'}",
                )
            self._away(self.place(name, version))  # before it is forgotten: that makes the room to write in
            before = tuple(one for one in state.before if one != version)
            self._write(name, state.model_copy(update={"before": before}))
            return [version]

    def _remove_all(self, name: str, state: State) -> None:
        bare = State(highest=state.highest, seen=state.seen)
        try:
            self._write(name, bare)
        except OSError as error:
            if error.errno not in FULL:
                raise
            self._away_all(name)  # whoever asks for this on a full disk asks for the room, too
            self._write(name, bare)
        self._away_all(name)
        keep_copy(self.folder / name)

    def _away_all(self, name: str) -> None:
        for place in (self.folder / name).iterdir():
            if _VERSION.fullmatch(place.name):
                self._away(place)

    # -- trials ----------------------------------------------------------------------------------------------------

    def begin(self, name: str, version: str) -> State:
        """An agent is about to run a version that is on trial. On the disk before anything of the model is parsed."""
        with self._changing(name) as state:
            if state.active != version or state.trial is None:
                return state
            trial = state.trial.model_copy(update={"starts": state.trial.starts + 1})
            return self._write(name, state.model_copy(update={"trial": trial}))

    def pause(self, name: str, version: str) -> State:
        """The agent ended well, in the middle of a trial: that start does not count."""
        with self._changing(name) as state:
            if state.active != version or state.trial is None:
                return state
            trial = state.trial.model_copy(update={"starts": max(0, state.trial.starts - 1)})
            return self._write(name, state.model_copy(update={"trial": trial}))

    def passed(self, name: str, version: str) -> State:
        with self._changing(name) as state:
            if state.active != version or state.trial is None:
                return state
            return self._write(name, state.model_copy(update={"trial": None}))

    def fail(self, name: str, version: str, reason: str) -> State:
        """The trial is over, and what was active before is active again."""
        with self._changing(name) as state:
            if state.active != version or state.trial is None:
                return state  # somebody has changed it meanwhile
            back = self._gone_back(name, state)
            return self._write(name, back.model_copy(update={"failed": {**state.failed, version: reason[:500]}}))

    # -- writing ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Alone. Whatever an earlier writer left behind when it was killed goes first."""
        try:
            durable.make_folder(self.folder)
            descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise self._cannot(error) from None
        try:
            if os.geteuid() == 0:
                owner = self.folder.stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            try:
                self._take_turns(descriptor)
                self._sweep()
            except OSError as error:
                if isinstance(error, OutputError):
                    raise
                raise self._cannot(error) from None
            yield
        finally:
            os.close(descriptor)

    def _sweep(self) -> None:
        for place in self.folder.glob(".*"):
            if place.name.startswith((INCOMING, OUTGOING)):
                if place.is_dir() and not place.is_symlink():
                    shutil.rmtree(place, ignore_errors=True)
                else:
                    place.unlink(missing_ok=True)

    def _take_turns(self, descriptor: int) -> None:
        deadline = time.monotonic() + self._lock_wait_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise OutputError(
                        f"{self.folder}: somebody else has been writing in it for {self._lock_wait_s:g} s",
                        remedy="is another edge-agent models command running?",
                    ) from None
                time.sleep(0.05)

    @contextlib.contextmanager
    def _changing(self, name: str) -> Iterator[State]:
        if not _NAME.fullmatch(name) or not is_kept(self.folder / name):
            there = ", ".join(one for one in self.names() if self.versions(one)) or "none"
            raise ArtifactError(f"{self.folder}: no model named {name!r} is installed", remedy=f"there are: {there}")
        with self._writing():
            try:
                found = self.kept(name)
                if found.damage is not None:
                    log.warning("model %s: %s %s; %s", name, STATE, found.damage, _goes_on(found))
                yield found.state
            except OSError as error:
                if isinstance(error, OutputError):
                    raise
                raise self._cannot(error) from None

    def _write(self, name: str, state: State) -> State:
        return keep(self.folder / name, state)

    def _away(self, place: Path) -> None:
        """Out of the way in one step; taking it apart may take longer."""
        aside = self.folder / f"{OUTGOING}{secrets.token_hex(4)}"
        durable.rename(place, aside)
        shutil.rmtree(aside, ignore_errors=True)

    def _cannot(self, error: OSError) -> OutputError:
        remedy = (
            f"nothing has changed; make room: edge-agent models remove NAME VERSION --store {self.folder}"
            if error.errno in FULL
            else "nothing has changed; run the command as the store's owner, or name another store"
        )
        return OutputError(f"{self.folder}: the store cannot be written ({error.strerror or error})", remedy=remedy)


def gone(name: str) -> str:
    """What to do where the active version's folder is gone."""
    return f"install it again, or edge-agent models rollback {name}"


def _goes_on(found: Kept) -> str:
    return "its versions are known by their folders, and none is active" if found.lost else "its copy counts"


def _whole(folder: Path, digest: str) -> bool:
    """Whether this very model is there, with every file as it came: one that was damaged since is put in its place again."""
    try:
        return load(folder).digest == digest
    except ArtifactError:
        return False


def _once(before: tuple[str | None, ...], active: str | None) -> tuple[str | None, ...]:
    return (*(one for one in before if one != active), active)[-KEEP_BEFORE:]


def _floor(state: State, underneath: Underneath | None) -> str | None:
    """The highest version that was ever here."""
    seen = [one for one in (state.highest, underneath.version if underneath else None) if one is not None]
    return max(seen, key=version_key, default=None)


def _acceptable(
    where: str,
    name: str,
    version: str,
    digest: str,
    state: State,
    underneath: Underneath | None,
    allow_downgrade: bool,
) -> None:
    """No other content under a known version, and no way back below what was seen."""
    plain = ".".join(str(part) for part in version_key(version))
    if plain != version:
        raise ArtifactError(f"{where}: {name} {version}: a version is written {plain}")
    known = state.seen.get(version)
    if known is None and underneath is not None and underneath.version == version:
        known = underneath.digest
    if known is not None and known != digest:
        raise ArtifactError(
            f"{where}: {name} {version} was seen with other content (manifest {known[:12]}..., this {digest[:12]}...)",
            remedy="a changed model takes a new version",
        )
    floor = _floor(state, underneath)
    if floor is not None and version_key(version) < version_key(floor) and not allow_downgrade:
        raise ArtifactError(
            f"{where}: {name} {version} is older than {floor}, which was here already",
            remedy="--allow-downgrade installs it nevertheless",
        )
