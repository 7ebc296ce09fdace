"""The recordings below one folder, and those of them that are open."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent import __version__
from edge_agent.annotation_files import artf, mit
from edge_agent.config import InferenceConfig
from edge_agent.errors import EdgeAgentError, SourceError
from edge_agent.outputs.segment import ANNOTATOR
from edge_agent.review import findings, labelling, recorded
from edge_agent.review.analyse import device_words
from edge_agent.review.corrections import Corrections, Journal
from edge_agent.review.export import Exported, beat_annotations, export, marks, marks_beside, plain_name
from edge_agent.review.merged import Merged
from edge_agent.review.pyramid import Pyramid
from edge_agent.review.waves import open_waves
from edge_agent.sources.open import EDF_ENDINGS, HDF5_ENDINGS, WFDB_ENDINGS

log = logging.getLogger(__name__)

ENDINGS = (".hea", ".csv", *EDF_ENDINGS, *HDF5_ENDINGS)
MOST_RECORDINGS = 10_000
DEEPEST = 4
MOST_OPEN = 4
SCAN_S = 5.0
"""A list of the folder is as good as new for so long."""
REFRESH_S = 0.7
REFERENCE = "atr"
RUN = "import sys; sys.path.insert(0, sys.argv[1]); from edge_agent.review.analyse import main; sys.exit(main(sys.argv[2:]))"
"""The analysis in a process of its own, with this very package."""


class Open:
    """One recording that somebody looks at. Methods may be called from several threads."""

    def __init__(
        self,
        name: str,
        path: Path,
        state: Path,
        corrections: Corrections,
        *,
        models: bool,
        inference: InferenceConfig | None = None,
    ) -> None:
        """``inference``: whose models label it; those of an agent without a configuration where it is None."""
        self.name, self.path = name, path
        self.inference = inference or InferenceConfig()
        self.signature = _signature(path)
        self.waves = open_waves(path)
        self._state = state
        self._corrections = corrections
        cache = state / "cache"
        key = f"{plain_name(name)[-80:]}-{self.signature}"
        _sweep(cache, key)
        self.pyramid = Pyramid(self.waves, cache / f"{key}.pyramid")
        database = cache / f"{key}.findings"
        self.found = findings.Found(database, self.waves.fs)
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._refreshed = 0.0
        self._merged: Merged | None = None
        self.said: list[str] = []
        self.reference = self._reference()
        kinds = {signal.kind: signal.name for signal in reversed(self.waves.signals)}
        self.channel = kinds.get("abp") or kinds.get("ecg") or self.waves.signals[0].name
        if recorded.beside(path) is not None:
            self.said.append("the labels are the agent's own, of when it recorded this")
        about = findings.about(database)
        if models:
            signature = f"{self.signature} {labelling.key(self.inference)}"
            if about.get("signature") != signature or about.get("state") != "whole":
                self._analyse(database, signature)
        elif about.get("state") != "whole":
            self._device_words(database)

    def _device_words(self, database: Path) -> None:
        """What lies beside it; no model is asked."""
        try:
            device_words(self.path, database, self.signature, [one.name for one in self.waves.signals])
        except (EdgeAgentError, sqlite3.Error) as error:
            self.said.append(str(error))

    def _analyse(self, database: Path, signature: str) -> None:
        findings.remove(database)  # or what other models found would be read while these begin
        package = str(Path(__file__).resolve().parent.parent.parent)
        inference, channels = self.inference.model_dump_json(), [one.name for one in self.waves.signals]
        command = [sys.executable, "-c", RUN, package, str(self.path), str(database), signature, inference, *channels]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self.found.state = "running"

    def _reference(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        path = self.path.with_suffix(f".{REFERENCE}")
        rows: list[tuple[int, int]] = []
        if self.path.suffix == ".hea" and path.is_file():
            try:
                rows = [
                    (one.sample, findings.LABELS.index(mit.AAMI[one.symbol]))
                    for one in mit.read(path)
                    if one.symbol in mit.AAMI
                ]
            except SourceError as error:
                self.said.append(str(error))
        return np.array([at for at, _ in rows], np.int64), np.array([label for _, label in rows], np.uint8)

    def _look(self) -> None:
        now = time.monotonic()
        if now < self._refreshed + REFRESH_S:
            return
        self._refreshed = now
        self.found.refresh()
        process = self._process
        if process is not None and process.poll() is not None:
            self._process = None
            why = process.communicate()[1].strip()
            self.found.refresh()
            if process.returncode:
                self.found.state = "failed"
                self.found.why = why.splitlines()[-1][:300] if why else f"status {process.returncode}"
                log.warning("%s: the models could not be run: %s", self.name, self.found.why)

    def merged(self) -> tuple[Merged, Journal]:
        with self._lock:
            self._look()
            journal = self._corrections.journal(self.name)
            if self._merged is None or self._merged.version != (self.found.version, journal.seq):
                self._merged = Merged(self.found, journal, self.reference, self.channel, self.waves.samples)
            return self._merged, journal

    def files(self) -> list[Path]:
        """The recording's own, its header first."""
        if self.path.suffix != ".hea":
            return [self.path]
        named = {self.path.with_suffix(".dat").name}
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            first = line.split(None, 1)[0] if line.strip() else "#"
            if "/" not in first and not first.startswith("#"):
                named.add(first)
        there = [self.path.parent / name for name in sorted(named)]
        return [self.path, *(path for path in there if path.is_file() and path != self.path)]

    def annotations(self) -> bytes:
        """All beats, as a WFDB annotation file."""
        merged, _ = self.merged()
        return mit.render(beat_annotations(merged))

    def marks(self) -> bytes:
        """The marks of artefacts, those that lie beside the recording among them. Raises SourceError."""
        merged, _ = self.merged()
        return artf.render(marks(merged, self.waves, marks_beside(self.path), self.path.name))

    def export(self) -> Exported:
        merged, journal = self.merged()
        return export(self._state / "export", self.name, self.path, self.files(), self.waves, merged, journal)

    def close(self) -> None:
        self.pyramid.close()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.communicate(timeout=5.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate()
        with self._lock:
            self.found.close()
        self.waves.close()


def _signature(path: Path) -> str:
    """Changes with the recording and with the agent."""
    said = [__version__]
    for ending in ("", ".dat", f".{ANNOTATOR}"):
        beside = path if not ending else path.with_suffix(ending)
        if beside.is_file():
            about = beside.stat()
            said.append(f"{about.st_size} {about.st_mtime_ns}")
    return hashlib.sha256(" ".join([*said, str(path)]).encode()).hexdigest()[:16]


def _sweep(cache: Path, key: str) -> None:
    """What was computed of this recording before it changed: the recorder's grow as they are looked at."""
    stem = key.rpartition("-")[0]
    mine = re.compile(re.escape(stem) + r"-[0-9a-f]{16}\.(pyramid|findings).*")
    with suppress(OSError):
        for file in cache.iterdir():
            if mine.fullmatch(file.name) and not file.name.startswith(f"{key}."):
                file.unlink(missing_ok=True)


class Library:
    """Names are what a scan of the folder gave: nothing else can be asked for, whatever a request says."""

    def __init__(
        self, root: Path, state: Path, *, models: bool = True, inference: InferenceConfig | None = None
    ) -> None:
        """``root``: a folder, or one recording. Raises SourceError, OutputError."""
        self._inference = inference
        self._only: Path | None = None
        if not root.is_dir():
            header = root if root.suffix in ENDINGS else Path(f"{root}.hea")
            if root.suffix in WFDB_ENDINGS:
                header = root.with_suffix(".hea")
            if not header.is_file():
                raise SourceError(f"{root}: no such folder and no such recording", remedy="look at its path")
            self._only, root = header, header.parent
        self.root = root.resolve()
        self.state = state
        self.corrections = Corrections(state / "corrections.sqlite")
        self._models = models
        self._open: dict[str, Open] = {}
        self._lock = threading.Lock()
        self._names: dict[str, Path] = {}
        self._scanned = -1e9
        self.names()

    def names(self) -> dict[str, Path]:
        with self._lock:
            return self._scan()

    def _scan(self) -> dict[str, Path]:
        now = time.monotonic()
        if now > self._scanned + SCAN_S:
            if self._only is not None:
                self._names = {self._only.stem: self._only}
            else:
                self._names = dict(sorted(_recordings(self.root)))
            self._scanned = now
        return self._names

    def open(self, name: str) -> Open:
        """Raises KeyError for a name that is none, EdgeAgentError for a recording that cannot be read."""
        with self._lock:
            opened = self._open.pop(name, None)
            if opened is None:
                path = self._scan()[name]
                while len(self._open) >= MOST_OPEN:
                    self._open.pop(next(iter(self._open))).close()
                opened = Open(name, path, self.state, self.corrections, models=self._models, inference=self._inference)
            self._open[name] = opened  # the last used is the last to go
            return opened

    def renew(self, name: str) -> None:
        """Open it anew the next time, if it has changed on the disk and nobody's analysis of it runs."""
        with self._lock:
            opened = self._open.get(name)
            if opened is not None and opened.found.state != "running" and opened.signature != _signature(opened.path):
                self._open.pop(name).close()

    def close(self) -> None:
        with self._lock:
            for opened in self._open.values():
                opened.close()
            self._open.clear()
        self.corrections.close()


def _recordings(root: Path) -> Iterator[tuple[str, Path]]:
    """Files that are recordings by their ending; no links, nothing hidden."""
    found = 0
    for folder, inside, files in os.walk(root, followlinks=False):
        depth = len(Path(folder).relative_to(root).parts)
        inside[:] = [] if depth >= DEEPEST else sorted(name for name in inside if not name.startswith("."))
        for file in sorted(files):
            path = Path(folder, file)
            if path.suffix.lower() in ENDINGS and not file.startswith(".") and not path.is_symlink():
                whole = path if path.suffix != ".hea" else path.with_suffix("")
                name = str(whole.relative_to(root))
                if not _is_text(name):
                    log.warning("%r: left out, since its name is not UTF-8", name)
                    continue
                found += 1
                if found > MOST_RECORDINGS:
                    return
                yield name, path


def _is_text(name: str) -> bool:
    """A file's name is any bytes; those that are no UTF-8 cannot be said in JSON, nor asked for."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def about(name: str, path: Path) -> dict[str, Any]:
    """What a list says of a recording, without opening it."""
    try:
        size = sum(beside.stat().st_size for beside in {path, path.with_suffix(".dat")} if beside.is_file())
    except OSError:
        size = 0
    return {"name": name, "bytes": size}


__all__ = ["EdgeAgentError", "Library", "Open", "about"]
