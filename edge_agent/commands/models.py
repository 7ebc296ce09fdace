"""``edge-agent models``: what is there, and what comes, runs and goes."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.commands import Run, described
from edge_agent.commands.models_shown import (
    SERVICE_CONFIG,
    config_of,
    list_models,
    open_catalogue,
    say_json,
    show,
    streams_naming,
    verified,
    verify,
)
from edge_agent.errors import ArtifactError, EdgeAgentError, OutputError
from edge_agent.inference.tflite.check_command import add_check
from edge_agent.inference.tflite.new_command import add_new

if TYPE_CHECKING:
    from edge_agent.inference.installed.catalogue import Catalogue

RELOAD = "the agent takes it up at its next reload: systemctl reload edge-agent (or SIGHUP, or the request reload)"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "Install, activate, roll back and verify models."
    models = commands.add_parser(
        "models",
        help=summary,
        description=summary,
        epilog="example:\n  edge-agent models install https://example.org/my-model-1.2.0.edgemodel --activate",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = models.add_subparsers(required=True, metavar="COMMAND", dest="models_command")

    def command(name: str, run: Run, summary: str, example: str, *, places: bool = True) -> argparse.ArgumentParser:
        parser = described(kinds, name, run, summary, f"edge-agent models {example}")
        if places:
            parser.add_argument(
                "--config",
                type=Path,
                metavar="FILE",
                help=f"the agent's; its [inference] says where models are and whom to trust (default: {SERVICE_CONFIG}, if it is there)",
            )
            parser.add_argument("--store", type=Path, metavar="DIR", help="another store than the configuration's")
        return parser

    listed = command("list", list_models, "Which models there are, and what runs.", "list")
    shown = command("show", show, "All that is known of one model.", "show ecg-af-rr")
    shown.add_argument("name", metavar="NAME")
    shown.add_argument("version", nargs="?", metavar="VERSION", help="default: the active one")
    checked = command("verify", verify, "Signature, digests and golden vectors, of all or of these.", "verify")
    checked.add_argument("models", nargs="*", metavar="NAME|FOLDER|ARCHIVE")
    install = command(
        "install", _install, "Take a model in: verified, proved, on the disk.", "install my-model.edgemodel --activate"
    )
    install.add_argument("source", metavar="FOLDER|ARCHIVE|https://...")
    install.add_argument("--activate", action="store_true", help="and activate it")
    install.add_argument("--sha256", metavar="HEX", help="of the archive; nothing of another one is opened")
    install.add_argument("--ca-file", type=Path, metavar="FILE", help="certificates to trust for HTTPS, PEM")
    _older(install)
    activate = command("activate", _activate, "Run this version from the next reload on.", "activate my-model 1.2.0")
    activate.add_argument("name", metavar="NAME")
    activate.add_argument("version", nargs="?", metavar="VERSION", help="default: the highest that is installed")
    activate.add_argument("--no-trial", action="store_true", help="believe it at once")
    _older(activate)
    rollback = command("rollback", _rollback, "Back to what was active before.", "rollback my-model")
    rollback.add_argument("name", metavar="NAME")
    remove = command("remove", _remove, "Remove a version, or all of a model.", "remove my-model 1.1.0")
    remove.add_argument("name", metavar="NAME")
    remove.add_argument("version", nargs="?", metavar="VERSION", help="default: all; the shipped one runs again")
    for parser in (listed, shown, checked, install, activate, rollback, remove):
        parser.add_argument("--json", action="store_true", help="for programs")

    add_check(kinds)
    add_new(kinds)
    pack = command("pack", _pack, "Make an archive of a model folder.", "pack build/my-model", places=False)
    pack.add_argument("folder", type=Path, metavar="FOLDER")
    pack.add_argument("archive", nargs="?", type=Path, metavar="FILE", help="default: NAME-VERSION.edgemodel, here")
    keygen = command("keygen", _keygen, "Make a key pair to sign models with.", "keygen ~/keys/edge.pem", places=False)
    keygen.add_argument("file", type=Path, metavar="FILE", help="the private key; the public one is FILE.pub")
    sign = command("sign", _sign, "Sign a model folder.", "sign build/my-model --key ~/keys/edge.pem", places=False)
    sign.add_argument("folder", type=Path, metavar="FOLDER")
    sign.add_argument("--key", type=Path, required=True, metavar="FILE", help="an Ed25519 private key, PEM")


def _older(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--allow-downgrade", action="store_true", help="although a higher version was here")


# -- what comes, runs and goes ---------------------------------------------------------------------------------------


def _install(arguments: argparse.Namespace) -> int:
    from edge_agent.inference.installed.archive import opened
    from edge_agent.inference.installed.prove import prove_apart

    catalogue = open_catalogue(arguments)
    with _source(arguments) as path, opened(path, arguments.source.partition("?")[0]) as bundle:
        done = catalogue.store.install(
            bundle,
            catalogue.policy,
            prove=prove_apart,
            underneath=catalogue.underneath,
            allow_downgrade=arguments.allow_downgrade,
        )
    said = (
        f"{done.name} {done.version}: {'installed' if done.new else 'was installed already'}, digest {done.digest[:12]}"
    )
    if done.made_room:
        said += f"; made room: {', '.join(done.made_room)} removed"
    active = catalogue.store.kept(done.name).state.active == done.version
    if not arguments.json:
        print(said)
    if arguments.activate:
        arguments.name, arguments.version, arguments.no_trial = done.name, done.version, False
        return _activate(arguments)
    if arguments.json:
        about = {"name": done.name, "version": done.version, "digest": done.digest, "new": done.new, "active": active}
        return say_json(about)
    if active:
        print(f"it is the active version{f'; {RELOAD}' if done.new else ': nothing to do'}")
        return 0
    print(f"it does not run yet: edge-agent models activate {done.name} {done.version}")
    return 0


@contextmanager
def _source(arguments: argparse.Namespace) -> Iterator[Path]:
    """The folder or archive; one on the network is fetched first."""
    from edge_agent.inference.installed.download import download

    if "://" not in arguments.source:
        path = Path(arguments.source)
        if arguments.sha256 is not None:
            _is_the_one(path, arguments.sha256)
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="edge-agent-") as aside:
        archive = Path(aside) / "fetched.edgemodel"
        download(arguments.source, archive, sha256=arguments.sha256, ca_file=arguments.ca_file)
        yield archive


def _is_the_one(path: Path, sha256: str) -> None:
    import hashlib

    from edge_agent.inference.installed.archive import MOST_ARCHIVE_BYTES

    if not path.is_file():
        raise ArtifactError(f"{path}: --sha256 is about an archive")
    with path.open("rb") as file:
        found = hashlib.sha256(file.read(MOST_ARCHIVE_BYTES + 1)).hexdigest()
    if found != sha256.lower():
        raise ArtifactError(f"{path}: its SHA-256 is {found[:12]}..., {sha256.lower()[:12]}... was wanted")


def _activate(arguments: argparse.Namespace) -> int:
    from edge_agent.inference.installed.catalogue import Place
    from edge_agent.inference.installed.state import State

    catalogue, name = open_catalogue(arguments), arguments.name
    known = catalogue.store.kept(name).state
    version = arguments.version or next(reversed(catalogue.store.versions(name, known)), known.active)
    if version is None:
        raise ArtifactError(f"{catalogue.store.folder}: no model named {name!r} is installed")
    folder = catalogue.store.place(name, version)
    if version in catalogue.store.versions(name):
        # Once more, here and now: what was good when it was installed may have been damaged since.
        told = verified(name, folder, Place(name, folder, catalogue.policy))
        if told["error"] is not None:
            raise ArtifactError(told["error"], remedy="nothing has changed")
    was = catalogue.store.kept(name).state.active
    state: State = catalogue.store.activate(
        name,
        version,
        underneath=catalogue.underneath(name),
        allow_downgrade=arguments.allow_downgrade,
        on_trial=not arguments.no_trial,
    )
    if arguments.json:
        return say_json({"name": name, "active": state.active, "trial": state.trial is not None})
    trial = ""
    if state.trial is not None:
        limits = catalogue.limits
        trial = f", on trial for {limits.windows} windows or {limits.seconds:g} s of an agent"
    print(f"{name} {version}: active{' already' if was == version else ''}{trial}")
    if was != version:
        print(RELOAD)
    return 0


def _rollback(arguments: argparse.Namespace) -> int:
    catalogue, name = open_catalogue(arguments), arguments.name
    state = catalogue.store.rollback(name)
    return _now_active(arguments, catalogue, name, state.active)


def _remove(arguments: argparse.Namespace) -> int:
    catalogue, name = open_catalogue(arguments), arguments.name
    under, store = catalogue.underneath(name), catalogue.store
    if under is not None and name not in store.names():
        raise ArtifactError(
            f"{name}: no version of it is installed in {store.folder}; {under.version} is from {catalogue.under}",
            remedy="what came with the agent is not removed: a stream's models = [...] says what runs",
        )
    was = store.kept(name).state.active
    gone = store.remove(name, arguments.version)
    state = store.state(name)
    if not arguments.json:
        none = f"{name}: no version of it was left to remove"
        print(f"{name}: removed: {', '.join(gone)}" if gone else none)
        if state.highest is not None and not store.versions(name, state):
            print(f"that {state.highest} was here stays known: an older one wants --allow-downgrade")
    return _now_active(arguments, catalogue, name, state.active, changed=state.active != was)


def _now_active(
    arguments: argparse.Namespace, catalogue: Catalogue, name: str, active: str | None, *, changed: bool = True
) -> int:
    under = catalogue.underneath(name)
    runs = active or (under.version if under else None)
    path = config_of(arguments)
    streams = streams_naming(path, name) if path is not None and changed else []
    if arguments.json:
        return say_json({"name": name, "active": runs, **({"streams": streams} if streams else {})})
    if active is not None:
        print(f"{name} {active}: active")
    else:
        print(f"{name} {under.version}: active, from {catalogue.under}" if under else f"{name}: no version is active")
    if changed:
        print(RELOAD)
        print("".join(f"{line}\n" for line in _who_names_it(path, name, streams, runs)), end="")
    return 0


def _who_names_it(path: Path | None, name: str, streams: list[str], runs: str | None) -> Iterator[str]:
    """What the change means to whoever wrote the model's name into a configuration."""
    if streams:
        those = f"{path}: stream {', '.join(streams)} names {name} (models = [...])"
        if runs is not None:
            yield f"{those}: {runs} runs there from the next reload on"
        else:
            yield (
                f"{those}: an agent that runs goes on as it is and refuses to reload, and none starts until a version is active:"
                " edge-agent models activate, or take the name out"
            )
    elif runs is None and path is None:
        yield f"a configuration whose streams name {name} (models = [...]) is refused from now on; --config FILE looks into one"


# -- making them -----------------------------------------------------------------------------------------------------


def _pack(arguments: argparse.Namespace) -> int:
    from edge_agent.inference.artifact import load
    from edge_agent.inference.installed.archive import ENDING, pack

    manifest = load(arguments.folder).manifest
    archive = arguments.archive or Path(f"{manifest.name}-{manifest.version}{ENDING}")
    size = pack(arguments.folder, archive)
    print(f"{archive}: {manifest.name} {manifest.version}, {size:,} bytes")
    return 0


def _keygen(arguments: argparse.Namespace) -> int:
    from edge_agent.inference.installed import signature

    public = signature.keygen(arguments.file)
    key = signature.public_key(str(public))
    print(f"{arguments.file}: the private key; keep it to yourself\n{public}: the public key, {key.id}")
    print(f'\nfor the configuration of those who shall trust it:\n\n[inference]\ntrusted_keys = ["{key.raw.hex()}"]')
    return 0


def _sign(arguments: argparse.Namespace) -> int:
    from edge_agent.inference.artifact import load
    from edge_agent.inference.installed import durable, signature

    artifact = load(arguments.folder)  # what is damaged is not vouched for
    raw = (arguments.folder / "manifest.json").read_bytes()
    place = arguments.folder / signature.FILE
    try:
        durable.replace_file(place, signature.sign(raw, arguments.key))
    except OSError as error:
        if isinstance(error, EdgeAgentError):
            raise
        raise OutputError(f"{place}: cannot be written ({error.strerror or error})") from None
    print(f"{place}: {artifact.name} {artifact.manifest.version} is signed")
    return 0
