"""``edge-agent review [DIR|RECORD] [--live [CONFIG]]``: the page, until Ctrl-C."""

from __future__ import annotations

import argparse
import hashlib
import shlex
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from edge_agent.commands import not_an_input
from edge_agent.errors import OutputError, SourceError


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "review",
        help="Look at recordings or at the live signal in a browser, and correct what the models said.",
        description="Look at recordings or at the live signal in a browser, and correct what the models said.",
        epilog="examples:\n  edge-agent review recordings/\n  edge-agent review mitdb/208\n  edge-agent review --live",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", nargs="?", type=Path, metavar="DIR|RECORD", help="a folder of recordings, or one")
    parser.add_argument(
        "--live", nargs="?", const=True, default=None, metavar="CONFIG",
        help="the streams of a configuration, without a broker; four simulated patients without one",
    )  # fmt: skip
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="the agent's: its [inference] says which models label a recording"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="default: %(default)s; beyond loopback a token is asked for"
    )
    parser.add_argument("--port", type=int, default=8080, help="default: %(default)s")
    parser.add_argument(
        "--state", type=Path, metavar="DIR", help="where corrections and exports are kept (default: the state folder)"
    )
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="PEM; with --tls-key")
    parser.add_argument("--tls-key", type=Path, metavar="FILE")
    parser.add_argument("--new-token", action="store_true", help="make another token; the old one is void")
    parser.add_argument("--no-models", action="store_true", help="do not run the models over the recordings")
    parser.add_argument(
        "--strip",
        nargs=2,
        type=float,
        metavar=("FROM_S", "TO_S"),
        help="write a picture of RECORD with its labels and end",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("strip.svg"), metavar="FILE.svg", help="for --strip (default: %(default)s)"
    )
    parser.set_defaults(run=run)


def default_state(path: Path | None) -> Path:
    """Of a folder of recordings: its own, so that two folders' recordings of one name stay apart."""
    from edge_agent.config import review_folder

    folder = review_folder()
    if path is None:
        return folder / "live"
    root = path.resolve() if path.is_dir() else path.resolve().parent
    return folder / f"{root.name[:40] or 'root'}-{hashlib.sha256(str(root).encode()).hexdigest()[:8]}"


def run(arguments: argparse.Namespace) -> int:
    from edge_agent import config
    from edge_agent.config import default_device
    from edge_agent.process import signals
    from edge_agent.review.guard import Token, is_loopback
    from edge_agent.review.host import LiveHost, simulated
    from edge_agent.review.library import Library
    from edge_agent.review.serve import PageServer
    from edge_agent.review.strips import StripKeeper

    if arguments.path is None and arguments.live is None and arguments.new_token:
        made = Token((arguments.state or default_state(None)) / "token.json").make()
        print(f"token: {made}\n  kept as a digest alone: write it down now", flush=True)
        return 0
    if arguments.path is None and arguments.live is None:
        raise SourceError("nothing to show", remedy="name a folder or a recording, or say --live")
    if not 0 <= arguments.port <= 65535:
        raise OutputError(f"port {arguments.port}: 0 to 65535 are wanted")
    if (arguments.tls_cert is None) != (arguments.tls_key is None):
        raise OutputError("--tls-cert and --tls-key go together")
    state = arguments.state or default_state(arguments.path)
    if arguments.strip is not None:
        return _strip(arguments, state)
    from edge_agent.review.web import Page

    streams, device, inference = simulated(), default_device(), config.InferenceConfig()
    for file in (arguments.config, Path(arguments.live) if isinstance(arguments.live, str) else None):
        if file is not None:
            settings = config.load(file)
            inference = settings.inference
            if file != arguments.config:
                streams, device = settings.stream, settings.device.id
    library: Library | None = None
    if arguments.path is not None:
        library = Library(arguments.path, state, models=not arguments.no_models, inference=inference)
    host: LiveHost | None = None
    strips = StripKeeper(state / "strips") if arguments.live is not None else None
    if arguments.live is not None:
        host = LiveHost(streams, device, strips, inference=inference)
    token: Token | None = None
    if not is_loopback(arguments.host):
        token = Token(state / "token.json")
        if arguments.new_token or not token.is_there:
            print(
                f"token: {token.make()}\n  it is kept as a digest alone: write it down now; --new-token makes another",
                flush=True,
            )
    tls = arguments.tls_cert is not None
    page = Page(library=library, feed=host.feed if host is not None else None, strips=strips, token=token, tls=tls)
    server = PageServer(page.guard, arguments.host, arguments.port, cert=arguments.tls_cert, key=arguments.tls_key)
    stop = threading.Event()
    signals.answer({signal.SIGINT: stop.set, signal.SIGTERM: stop.set})
    try:
        if host is not None:
            host.start()
        server.start()
        print(f"{server.url}{'live' if library is not None and host is not None else ''}", flush=True)
        if token is not None and not tls:
            print("  without TLS the token and the signal can be read by others on this network", flush=True)
        stop.wait()
    finally:
        server.stop()
        page.close()
        if host is not None:
            host.stop()
        if library is not None:
            library.close()
    return 0


def _strip(arguments: argparse.Namespace, state: Path) -> int:
    from edge_agent.review.library import Library
    from edge_agent.review.picture import LONGEST_S
    from edge_agent.review.strip_of import strip_of

    if arguments.path is None or arguments.path.is_dir():
        raise SourceError("--strip wants one recording")
    not_an_input(arguments.out, [arguments.path], "--out")
    begin, end = arguments.strip
    if not 0 <= begin < end <= begin + LONGEST_S:
        raise SourceError(f"--strip {begin:g} {end:g}: two times in order, at most {LONGEST_S:g} s apart, are wanted")
    library = Library(arguments.path, state, models=False)
    try:
        opened = library.open(next(iter(library.names())))
        opened.merged()
        if opened.found.state != "whole":
            print(
                f"{opened.name}: not labelled yet, or not to its end, so the strip may lack labels and alarms: open it once with"
                f" `edge-agent review {shlex.quote(str(arguments.path))}`, which finds and keeps them",
                file=sys.stderr,
            )
        first, stop = round(begin * opened.waves.fs), min(opened.waves.samples, round(end * opened.waves.fs))
        if first >= stop:
            raise SourceError(f"the recording is {opened.waves.samples / opened.waves.fs:g} s long")
        try:
            arguments.out.write_text(strip_of(opened, first, stop), encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{arguments.out}: {error.strerror or error}") from None
    finally:
        library.close()
    print(arguments.out)
    return 0
