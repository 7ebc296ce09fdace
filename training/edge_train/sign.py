"""Ed25519 signatures (RFC 8032) over an artifact's manifest.

The manifest names every file's SHA-256, so a signature over its bytes stands for the whole. ``manifest.sig`` is the raw
signature, 64 bytes, nothing else; keys are PEM files, the private one PKCS #8 without a password (mode 0600), the public one
SubjectPublicKeyInfo.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from edge_train.data import DataError

FILE = "manifest.sig"
SIGNATURE_BYTES = 64


def _serialisation() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise DataError("signing needs the package cryptography: pip install -e 'training[sign]'") from None
    return serialization, ed25519


def keygen(path: Path) -> Path:
    """A new private key at ``path``, its public key at ``path`` + ``.pub``; nothing is overwritten."""
    serialization, ed25519 = _serialisation()
    public = path.with_name(path.name + ".pub")
    for each in (path, public):
        if each.exists():
            raise DataError(f"{each}: is there already; a key is never overwritten")
    key = ed25519.Ed25519PrivateKey.generate()
    private_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public_pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as out:
            out.write(private_pem)
        public.write_bytes(public_pem)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise DataError(f"{path}: cannot be written ({error.strerror or error})") from None
    return public


def private_key(path: Path) -> Any:
    serialization, ed25519 = _serialisation()
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); make one with: edge-train pack --keygen {path}"
        ) from None
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: not a private key in PEM without a password ({error})") from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise DataError(f"{path}: is no Ed25519 key")
    return key


def sign(manifest: bytes, key: Path) -> bytes:
    """The signature that goes into ``manifest.sig``."""
    signature: bytes = private_key(key).sign(manifest)
    return signature


def verify(manifest: bytes, signature: bytes, public: Path) -> bool:
    """Whether the owner of that public key signed this very manifest."""
    serialization, ed25519 = _serialisation()
    from cryptography.exceptions import InvalidSignature

    try:
        key = serialization.load_pem_public_key(public.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{public}: not a public key in PEM ({error})") from None
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise DataError(f"{public}: is no Ed25519 key")
    try:
        key.verify(signature, manifest)
    except InvalidSignature:
        return False
    return True
