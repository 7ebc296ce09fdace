"""Ed25519 signatures over an artifact's manifest: the daemon's own module, with this program's errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge_agent.errors import EdgeAgentError
from edge_agent.inference.installed import signature
from edge_train.errors import DataError

FILE = signature.FILE
SIGNATURE_BYTES = signature.SIGNATURE_BYTES


@contextlib.contextmanager
def _in_our_words() -> Iterator[None]:
    try:
        yield
    except EdgeAgentError as error:
        raise DataError(str(error)) from None


def keygen(path: Path) -> Path:
    """A new private key at ``path``, its public key at ``path`` + ``.pub``; nothing is overwritten."""
    with _in_our_words():
        return signature.keygen(path)


def private_key(path: Path) -> Any:
    with _in_our_words():
        return signature.private_key(path)


def sign(manifest: bytes, key: Path) -> bytes:
    """The signature that goes into ``manifest.sig``."""
    with _in_our_words():
        return signature.sign(manifest, key)


def verify(manifest: bytes, signed: bytes, public: Path) -> bool:
    """Whether the owner of that public key signed this very manifest."""
    with _in_our_words():
        return signature.is_by(manifest, signed, signature.public_key(str(public)))
