"""Where the commands begin: until all that they need is loaded, Ctrl-C ends them without a word.

Loading takes half a second on a Pi, and a traceback of imports tells nobody anything. Nothing but the standard library's lightest may be
loaded at the top of this module.
"""

from __future__ import annotations

import signal
from collections.abc import Callable


def agent() -> int:
    return _started(_agent)


def bench() -> int:
    return _started(_bench)


def _agent() -> Callable[[], int]:
    from edge_agent.cli import main

    return main


def _bench() -> Callable[[], int]:
    from edge_agent.bench.cli import main

    return main


def _started(loaded: Callable[[], Callable[[], int]]) -> int:
    asked_to_stop = signal.getsignal(signal.SIGINT)
    python_raises = asked_to_stop is signal.default_int_handler  # not where a shell has us ignore it, in the background
    if python_raises:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    main = loaded()
    if python_raises:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return main()
