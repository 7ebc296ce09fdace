"""Requests over MQTT: ``bridge/request/<what>`` is answered on ``bridge/response/<what>`` with the asker's ``transaction``.

Whoever may publish on the broker may ask, so a request can neither run a command nor read a file, and what it says is hostile
until proven otherwise. They are carried out one after the other on a thread of their own.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from edge_agent import strict_json
from edge_agent.errors import RequestError
from edge_agent.events import Response

log = logging.getLogger(__name__)

KINDS = ("info", "reload", "measure", "mark", "silence", "acknowledge", "limits", "verify")
PLAIN = re.compile("[a-z_]{1,32}")
"""Names that are answered: the answer's topic ends with what somebody wrote."""
MOST_BYTES = 4096
WAITING = 32
BURST = 20
PER_S = 10.0
"""More than these and a request is not carried out; once a second whoever asks is told."""
LONGEST_TRANSACTION = 128

Answer = Callable[[str, Mapping[str, Any]], dict[str, Any]]
"""What is asked and with which arguments, to what is answered; RequestError for what cannot be done."""


class Bucket:
    """Tokens: so many at once, and so many a second."""

    def __init__(self, burst: int, per_s: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._left = float(burst)
        self._filled = time.monotonic()

    def take(self) -> bool:
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._filled) * self._per_s)
        self._filled = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Requests:
    def __init__(self, root: str, answer: Answer, respond: Callable[[str, bytes], None]) -> None:
        self._root = root
        self._answer = answer
        self._respond = respond
        self._allowed = Bucket(BURST, PER_S)
        self._refusals = Bucket(1, 1.0)
        self._waiting: queue.Queue[tuple[str, bytes] | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name="requests", daemon=True)
        self.listen: dict[str, Callable[[str, bytes], None]] = {f"{root}/bridge/request/+": self.heard}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join(1.0)

    def heard(self, topic: str, payload: bytes) -> None:
        """Of any name: one that is misspelt is answered, too, if it is fit to be part of a topic."""
        kind = topic.rpartition("/")[2]
        if PLAIN.fullmatch(kind):
            self._take(kind, payload)

    def _take(self, kind: str, payload: bytes) -> None:
        """From the network's thread: note it, or refuse it for being one too many.

        A flood must not become a flood of answers, in which the alarms would have to wait their turn.
        """
        if self._allowed.take():
            with contextlib.suppress(queue.Full):
                self._waiting.put_nowait((kind, payload))
                return
        if self._refusals.take():
            self._say(kind, Response(status="error", error="too many requests; try again later"))

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            kind, payload = item
            try:
                self._say(kind, self._carry_out(kind, payload))
            except Exception:  # nothing that somebody may send ends the thread
                log.exception("the answer to request %s could not be sent", kind)

    def _carry_out(self, kind: str, payload: bytes) -> Response:
        transaction: str | None = None
        try:
            arguments = _parse(payload)
            given = arguments.pop("transaction", None)
            if given is not None and (not isinstance(given, str) or len(given) > LONGEST_TRANSACTION):
                raise RequestError(f"transaction: a text of at most {LONGEST_TRANSACTION} characters is wanted")
            transaction = given
            if kind not in KINDS:
                raise RequestError(f"there is no request {kind!r}; there are: {', '.join(KINDS)}")
            data = self._answer(kind, arguments)
        except RequestError as error:
            return Response(status="error", error=error.what, transaction=transaction)
        except Exception:  # a fault of ours must not end the thread, and its text is nobody's business on the broker
            log.exception("request %s met an unexpected fault", kind)
            return Response(status="error", error="unexpected fault; see the agent's log", transaction=transaction)
        log.info("request %s carried out", kind)
        return Response(status="ok", data=data, transaction=transaction)

    def _say(self, kind: str, response: Response) -> None:
        self._respond(f"{self._root}/bridge/response/{kind}", response.payload())


def _parse(payload: bytes) -> dict[str, Any]:
    """An empty payload asks without arguments."""
    if len(payload) > MOST_BYTES:
        raise RequestError(f"longer than {MOST_BYTES} bytes")
    if not payload:
        return {}
    try:
        found = strict_json.loads(payload)
    except RequestError:
        raise
    except (ValueError, RecursionError):
        raise RequestError("not JSON") from None
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):  # "\ud800", half a character, is in nobody's UTF-8
        raise RequestError("holds text that cannot be encoded") from None
    if not isinstance(found, dict):
        raise RequestError("a JSON object is wanted")
    return found
