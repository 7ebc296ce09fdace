"""Fetching an archive over HTTPS: the server proves who it is, and neither its size nor its patience is ours to lose.

Standard library alone. Redirects are followed, at most five and never to anything but HTTPS; the proxy of the environment is
used as urllib does.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from edge_agent import __version__
from edge_agent.errors import ArtifactError, SourceError
from edge_agent.inference.installed.archive import MOST_ARCHIVE_BYTES

SILENT_S = 15.0
"""Without a byte."""
WHOLE_S = 300.0
MOST_REDIRECTS = 5
_CHUNK = 1 << 16


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    max_redirections = MOST_REDIRECTS
    max_repeats = 2

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urllib.parse.urlsplit(newurl).scheme != "https":
            fp.close()
            raise urllib.error.URLError(f"it leads to {_shown(newurl)}, which is not HTTPS")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _shown(url: str) -> str:
    """Without what may be secret: a user, a password, a token in the query."""
    parts = urllib.parse.urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def download(
    url: str,
    into: Path,
    *,
    sha256: str | None = None,
    ca_file: Path | None = None,
    most_bytes: int = MOST_ARCHIVE_BYTES,
    silent_s: float = SILENT_S,
    whole_s: float = WHOLE_S,
) -> None:
    """Write what is at ``url`` to a new file; nothing is left where this raises. ``sha256``: what it must be."""
    try:
        parts = urllib.parse.urlsplit(url)
        shown = _shown(url)
    except ValueError as error:  # a port that is none
        raise SourceError(f"not a URL ({error})") from None
    if parts.scheme != "https" or not parts.hostname:
        raise SourceError(f"{shown}: models are fetched over HTTPS alone", remedy="or name a folder or a file")
    if parts.username is not None or parts.password is not None:
        raise SourceError(f"{shown}: a user or password in a URL ends up in histories and logs")
    if sha256 is not None and (len(sha256) != 64 or set(sha256.lower()) - set("0123456789abcdef")):
        raise ArtifactError("--sha256: 64 hexadecimal digits are wanted")
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except OSError as error:
        raise SourceError(f"{ca_file}: not certificates in PEM ({error.strerror or error})") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPSHandler(context=context),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _OnlyHttps(),
    ):
        opener.add_handler(handler)
    fetched = _Fetch(opener, url, into, most_bytes, silent_s)
    thread = threading.Thread(target=fetched.run, name="download", daemon=True)
    thread.start()
    thread.join(whole_s)
    try:
        if thread.is_alive():  # a server that gives a byte now and then would never be silent
            fetched.give_up.set()
            raise SourceError(f"{shown}: not here after {whole_s:g} s")
        if fetched.error is not None:
            raise SourceError(f"{shown}: {_reason(fetched.error)}", remedy=_remedy(fetched.error))
        if sha256 is not None and fetched.digest != sha256.lower():
            raise ArtifactError(
                f"{shown}: its SHA-256 is {fetched.digest[:12]}..., {sha256.lower()[:12]}... was wanted",
                remedy="it is not the file that was meant; nothing of it was opened",
            )
    except Exception:
        with contextlib.suppress(OSError):
            into.unlink()
        raise


class _Fetch:
    """In a thread, since no single time limit of the library's bounds a slow answer as a whole."""

    def __init__(self, opener: urllib.request.OpenerDirector, url: str, into: Path, most: int, silent_s: float) -> None:
        self._opener, self._url, self._into = opener, url, into
        self._most, self._silent_s = most, silent_s
        self.give_up = threading.Event()
        self.error: Exception | None = None
        self.digest = ""

    def run(self) -> None:
        try:
            self._run()
        except (OSError, ValueError, http.client.HTTPException) as error:
            self.error = error

    def _run(self) -> None:
        about = {"User-Agent": f"edge-agent/{__version__}", "Accept-Encoding": "identity"}
        request = urllib.request.Request(self._url, headers=about)
        digest = hashlib.sha256()
        with self._opener.open(request, timeout=self._silent_s) as answer, self._into.open("xb") as file:
            promised = answer.headers.get("Content-Length")
            if promised is not None and promised.isdecimal() and int(promised) > self._most:
                raise ValueError(f"is {int(promised)} bytes; {self._most} are the most")
            came, began = 0, time.monotonic()
            while not self.give_up.is_set():
                piece = answer.read1(_CHUNK)
                if not piece:
                    break
                came += len(piece)
                if came > self._most:
                    raise ValueError(f"goes on after {self._most} bytes ({time.monotonic() - began:.0f} s)")
                digest.update(piece)
                file.write(piece)
            if promised is not None and promised.isdecimal() and came < int(promised):
                raise ValueError(f"broke off after {came} of {promised} bytes")
        self.digest = digest.hexdigest()


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        with error:
            return f"HTTP {error.code} {error.reason}"
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(inner, ssl.SSLCertVerificationError):
        return f"the server could not prove who it is ({inner.verify_message})"
    if isinstance(inner, TimeoutError):
        return "silent for too long"
    return str(getattr(inner, "strerror", None) or inner or type(inner).__name__)


def _remedy(error: Exception) -> str:
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(inner, ssl.SSLCertVerificationError):
        return "for a server with a certificate of your own: --ca-file FILE"
    return ""
