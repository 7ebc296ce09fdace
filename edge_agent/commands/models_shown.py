"""What ``edge-agent models`` shows: lists, one model whole, and what verifying says."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.errors import ArtifactError, EdgeAgentError
from edge_agent.shown import plain

if TYPE_CHECKING:
    from edge_agent.inference.installed.catalogue import Catalogue, Place

SERVICE_CONFIG = Path("/etc/edge-agent/edge-agent.toml")
SERVICE_STATE = Path("/var/lib/edge-agent")


def config_of(arguments: argparse.Namespace) -> Path | None:
    """The configuration that a command means: that given, else the service's own, whoever runs this command."""
    given: Path | None = arguments.config
    return given if given is not None or not SERVICE_CONFIG.is_file() else SERVICE_CONFIG


def streams_naming(path: Path, name: str) -> list[str]:
    """The configuration's streams whose ``models`` name this one."""
    from edge_agent import config

    return [stream.name for stream in config.load(path, streams=False).stream if name in (stream.models or ())]


def open_catalogue(arguments: argparse.Namespace) -> Catalogue:
    from edge_agent import config
    from edge_agent.inference.installed.catalogue import Catalogue

    path, settings = config_of(arguments), config.InferenceConfig()
    if path is not None:
        settings = config.load(path, streams=False).inference
    if arguments.config is None and path is not None and settings.store is None and SERVICE_STATE.is_dir():
        settings = settings.model_copy(update={"store": SERVICE_STATE / "models"})
    if arguments.store is not None:
        settings = settings.model_copy(update={"store": arguments.store})
    return Catalogue.of(settings)


def rows_in(catalogue: Catalogue, only: str | None = None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name in sorted({*catalogue.names(), *catalogue.store.names()}):
        if only is None or name == only:
            found += _rows_of(catalogue, name)
    return found


def _rows_of(catalogue: Catalogue, name: str) -> Iterator[dict[str, Any]]:
    from edge_agent.inference.installed.store import gone

    store = catalogue.store
    found = store.kept(name)
    state, there = found.state, store.versions(name, found.state)
    damaged = None
    if found.damage is not None:
        damaged = f"state.json {found.damage}; "
        damaged += (
            f"nothing is active until: edge-agent models activate {name} --store {store.folder}"
            if found.lost
            else "its copy counts"
        )
    under = catalogue.underneath(name)
    candidates = [place.folder for place in (catalogue.places(name) if name in catalogue.names() else ())]
    runs = next((folder for folder in candidates if (folder / "manifest.json").is_file()), None)
    missing = state.active is not None and state.active not in there
    if under is not None:
        folder = catalogue.under / name
        note = f"since the active {state.active} is missing" if missing and folder == runs else None
        yield _row(
            catalogue, name, under.version, "active" if folder == runs else "covered", "shipped", under.digest, note
        )
    if missing:
        note = f"its folder is gone: {gone(name)}"
        yield _row(catalogue, name, str(state.active), "missing", "store", state.seen.get(str(state.active), ""), note)
    for version in there:
        what, note = "installed", None
        if version in state.failed:
            what, note = "failed", state.failed[version]
        if version in state.before:
            what = "before"
            if store.place(name, version) == runs:
                what, note = "active", f"since the active {state.active} is missing"
        if version == state.active:
            what = "active" if state.trial is None else "trial"
            if state.trial is not None:
                note = f"since {state.trial.since}, begun {state.trial.starts} times"
        yield _row(catalogue, name, version, what, "store", state.seen[version], damaged or note)
        damaged = None  # once is enough
    if damaged is not None:
        yield _row(catalogue, name, state.highest or "?", "damaged", "store", "", damaged)


def _row(
    catalogue: Catalogue, name: str, version: str, state: str, origin: str, digest: str, note: str | None = None
) -> dict[str, Any]:
    from edge_agent.inference.installed import signature

    folder = catalogue.under / name if origin == "shipped" else catalogue.store.place(name, version)
    optional, standing = False, signature.Standing("unsigned")
    if state not in ("missing", "damaged"):
        standing = signature.standing(folder, catalogue.policy)
        try:
            about = json.loads((folder / "manifest.json").read_bytes())
            optional = about.get("optional") is True
        except (OSError, ValueError, AttributeError, RecursionError):
            note = "its manifest cannot be read"
    return {
        "name": name,
        "version": version,
        "state": state,
        "from": origin,
        "optional": optional,
        "signed": standing.word == "trusted",
        "signature": standing.word,
        "signer": standing.signer,
        "digest": digest,
        "note": note,
    }


def _signature(row: dict[str, Any]) -> str:
    return f"trusted {row['signer'][:8]}" if row["signer"] else str(row["signature"])


def list_models(arguments: argparse.Namespace) -> int:
    catalogue = open_catalogue(arguments)
    rows = rows_in(catalogue)
    if arguments.json:
        return say_json({"models_dir": str(catalogue.under), "store": str(catalogue.store.folder), "models": rows})
    table(
        ("name", "version", "state", "from", "signature", "digest", "note"),
        [
            (
                row["name"],
                row["version"],
                row["state"] + (" (optional)" if row["optional"] and row["state"] == "active" else ""),
                row["from"],
                _signature(row),
                row["digest"][:12],
                row["note"] or "",
            )
            for row in rows
        ],
    )
    print(f"\nstore: {catalogue.store.folder}{'' if catalogue.store.folder.is_dir() else ' (empty)'}")
    return 0


def show(arguments: argparse.Namespace) -> int:
    from edge_agent.inference.artifact import load

    catalogue = open_catalogue(arguments)
    if arguments.version is None and arguments.name not in catalogue.names():  # installed, and not active yet
        installed = catalogue.store.versions(arguments.name) if arguments.name in catalogue.store.names() else []
        arguments.version = installed[-1] if installed else None
    places = catalogue.places(arguments.name) if arguments.version is None else ()
    folder = places[0].folder if places else catalogue.store.place(arguments.name, arguments.version)
    under = catalogue.underneath(arguments.name)
    if arguments.version is not None and arguments.version not in catalogue.store.versions(arguments.name):
        if under is None or under.version != arguments.version:
            raise ArtifactError(f"{arguments.name}: no version {arguments.version} is there")
        folder = catalogue.under / arguments.name
    artifact = load(folder)
    manifest = artifact.manifest
    rows = rows_in(catalogue, arguments.name)
    if arguments.json:
        about = manifest.model_dump(mode="json", by_alias=True)
        return say_json({"folder": str(folder), "digest": artifact.digest, "manifest": about, "versions": rows})
    inputs = ", ".join(f"{part.name} ({part.kind})" for part in manifest.inputs)
    sizes = ", ".join(f"{name} {(folder / name).stat().st_size:,} bytes" for name in sorted(manifest.files))
    for key, value in (
        ("model", f"{manifest.name} {manifest.version}"),
        ("task", f"{manifest.task}: {', '.join(manifest.labels)}"),
        ("window", f"{manifest.anchor.kind}; {inputs}"),
        ("files", sizes),
        ("digest", artifact.digest),
        ("data", "; ".join(manifest.training.data)),
        ("licence", manifest.training.licence),
        ("folder", str(folder)),
    ):
        print(f"{key + ':':<9}{plain(value)}")
    print()
    table(
        ("version", "state", "from", "signature", "note"),
        [(row["version"], row["state"], row["from"], _signature(row), row["note"] or "") for row in rows],
    )
    return 0


def verify(arguments: argparse.Namespace) -> int:
    catalogue = open_catalogue(arguments)
    wanted: list[tuple[str, Place]] = []
    told: list[dict[str, Any]] = []
    for name in arguments.models or catalogue.names():
        if "/" in name or (Path(name).exists() and name not in catalogue.names()):
            told.append(_verified_bundle(catalogue, Path(name)))
        else:
            wanted += [(name, place) for place in _all_places(catalogue, name)]
    told += [verified(name, place.folder, place) for name, place in wanted]
    bad = [one for one in told if one["error"] is not None]
    if arguments.json:
        say_json(told)
    else:
        for one in told:
            if one["error"] is None:
                signed = f", signed by {one['signer']}" if one["signer"] else ""
                given = f"{plain(one['given'])}: " if "given" in one else ""
                print(
                    f"{given}{one['name']} {one['version']}: good: {one['files']} files{signed}; golden vectors within"
                    f" {one['worst']:.4g} of {one['tolerance']:.4g} on {one['backend']}"
                )
            else:
                print(f"edge-agent: {plain(one['error'])}", file=sys.stderr)
    return int(bool(bad))


def _all_places(catalogue: Catalogue, name: str) -> list[Place]:
    """What is covered or not active is verified, too, while it can still be got again."""
    from edge_agent.inference.installed.catalogue import Place

    known = name in catalogue.store.names()
    versions = catalogue.store.versions(name) if known else []
    installed = [Place(name, catalogue.store.place(name, version), catalogue.policy) for version in versions]
    first = catalogue.places(name) if name in catalogue.names() or not installed else []
    return list({place.folder: place for place in (*installed, *first)}.values())


def verified(name: str, folder: Path, place: Place) -> dict[str, Any]:
    from edge_agent.inference.artifact import load
    from edge_agent.inference.installed.prove import prove_apart

    told: dict[str, Any] = {"name": name, "version": None, "error": None, "signer": None}
    try:
        artifact = load(folder, place.policy)
        told |= {"version": artifact.manifest.version, "signer": artifact.signer, "digest": artifact.digest}
        told["files"] = len(artifact.manifest.files)
        proof = prove_apart(folder)
        told |= {"backend": proof.backend, "worst": proof.worst, "tolerance": proof.tolerance}
    except EdgeAgentError as error:
        told["error"] = error.what
    return told


def _verified_bundle(catalogue: Catalogue, path: Path) -> dict[str, Any]:
    """A folder or an archive that is not installed, by the rules by which it would be."""
    from edge_agent.inference.installed.archive import opened, take
    from edge_agent.inference.installed.catalogue import Place

    with tempfile.TemporaryDirectory(prefix="edge-agent-") as aside:
        try:
            with opened(path) as bundle:
                manifest = take(bundle, Path(aside), catalogue.policy)
        except EdgeAgentError as error:
            return {"name": str(path), "version": None, "error": error.what, "signer": None}
        told = verified(manifest.name, Path(aside), Place(manifest.name, Path(aside), catalogue.policy))
        if told["error"] is not None:
            told["error"] = told["error"].replace(aside, str(path))
        return told | {"given": str(path)}


def say_json(content: Any) -> int:
    print(json.dumps(content, indent=2))
    return 0


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    cells = [[plain(text) for text in line] for line in (head, *rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    for line in cells:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
