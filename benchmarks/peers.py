"""Other people's QRS detectors behind one interface: a whole record in, sample indices out.

None of them is causal as run here: each sees the whole record before it says its first beat, and that is how their
published figures were taken. Their packages are needed only when they are asked for.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Signal = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Peer:
    name: str
    """As asked for on the command line."""
    title: str
    package: str
    """As the package registry names it."""
    detect: Callable[[Signal, float], Indices]

    @property
    def version(self) -> str:
        return metadata.version(self.package)


class PeerError(RuntimeError):
    """A peer was asked for whose package is not installed."""


def _sleepecg(x: Signal, fs: float) -> Indices:
    return _whole(import_module("sleepecg").detect_heartbeats(x, fs))


def _neurokit(x: Signal, fs: float) -> Indices:
    nk = import_module("neurokit2")
    clean = nk.ecg_clean(x, sampling_rate=fs, method="pantompkins1985")
    return _whole(nk.ecg_findpeaks(clean, sampling_rate=fs, method="pantompkins1985")["ECG_R_Peaks"])


def _xqrs(x: Signal, fs: float) -> Indices:
    return _whole(import_module("wfdb.processing").xqrs_detect(sig=x, fs=fs, verbose=False))


def _ecgdetectors(method: str) -> Callable[[Signal, float], Indices]:
    def detect(x: Signal, fs: float) -> Indices:
        detectors = import_module("ecgdetectors").Detectors(fs)
        return _whole(getattr(detectors, f"{method}_detector")(x))

    return detect


def _whole(found: Iterable[float]) -> Indices:
    return np.unique(np.asarray(list(found), np.float64).astype(np.int64))


PEERS: tuple[Peer, ...] = (
    Peer("sleepecg", "sleepecg (compiled)", "sleepecg", _sleepecg),
    Peer("neurokit", "Pan-Tompkins (NeuroKit2)", "neurokit2", _neurokit),
    Peer("xqrs", "xqrs (wfdb)", "wfdb", _xqrs),
    Peer("pan_tompkins", "Pan-Tompkins (py-ecg-detectors)", "py-ecg-detectors", _ecgdetectors("pan_tompkins")),
    Peer("hamilton", "Hamilton (py-ecg-detectors)", "py-ecg-detectors", _ecgdetectors("hamilton")),
    Peer("two_average", "two-average (py-ecg-detectors)", "py-ecg-detectors", _ecgdetectors("two_average")),
)


def choose(names: str) -> tuple[Peer, ...]:
    """``all``, ``none`` or names with commas between; refuses what is unknown or not installed."""
    if names == "none":
        return ()
    known = {peer.name: peer for peer in PEERS}
    wanted = list(known) if names == "all" else [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in known:
            raise PeerError(f"no peer is called {name!r}: all, none or some of {', '.join(known)}")
        try:
            known[name].version  # noqa: B018  the look-up is the check
        except metadata.PackageNotFoundError:
            raise PeerError(
                f"the peer {name!r} needs the package {known[name].package}: install it, or choose others with --peers"
            ) from None
    return tuple(known[name] for name in wanted)


def run(peer: Peer, x: Signal, fs: float, cache: Path | None = None) -> Indices:
    """The peer's beats, kept in ``cache`` by what they depend on: peer, version, rate and the samples themselves."""
    kept: Path | None = None
    if cache is not None:
        key = hashlib.sha256(f"{peer.name} {peer.version} {np.__version__} {fs!r} ".encode())
        key.update(np.ascontiguousarray(x, np.float64).tobytes())
        kept = cache / peer.name / f"{key.hexdigest()[:32]}.npy"
        if kept.exists():
            return np.asarray(np.load(kept, allow_pickle=False), np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their own, about things that their users cannot change
        found = peer.detect(x, fs)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(f".{id(found)}.part")
        with partial.open("wb") as file:
            np.save(file, found)
        partial.replace(kept)
    return found
