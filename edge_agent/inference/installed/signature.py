"""Who vouches for a model: Ed25519 signatures (RFC 8032) over ``manifest.json`` as it stands.

The manifest names every file's SHA-256, so a signature over its bytes stands for the whole. ``manifest.sig`` is the raw
signature, 64 bytes, nothing else. Keys are PEM files: the private one PKCS #8 without a password (mode 0600), the public one
SubjectPublicKeyInfo.

Public keys are read without any package, so a configuration can be checked anywhere; only signing and verifying need
``cryptography``, which is imported when it comes to that and not before.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent import plain_file
from edge_agent.errors import ArtifactError, OutputError
from edge_agent.inference.installed import curve

FILE = "manifest.sig"
SIGNATURE_BYTES = 64
KEY_BYTES = 32
MOST_KEY_FILE_BYTES = 4096
_SPKI = bytes.fromhex("302a300506032b6570032100")
"""What stands before the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410)."""
_AGAIN = "get the model again, or add its maker's public key to inference.trusted_keys"
_INSTALL = "in the checkout: pip install '.[signatures]'"


@dataclass(frozen=True, slots=True)
class PublicKey:
    raw: bytes

    @property
    def id(self) -> str:
        """For people: enough to tell keys apart."""
        return hashlib.sha256(self.raw).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Policy:
    """Whose signatures count, and whether there must be one."""

    keys: tuple[PublicKey, ...] = ()
    required: bool = False


ANY = Policy()
"""Signatures are not looked at."""


def is_key(text: str) -> bool:
    """A public key itself, not the path of one."""
    return len(text) == 2 * KEY_BYTES and not set(text) - set("0123456789abcdefABCDEF")


def public_key(text: str) -> PublicKey:
    """From 64 hexadecimal digits, or the path of a file that holds them or a PEM public key."""
    key = _read_key(text)
    why = curve.why_no_point(key.raw)
    if why is not None:
        raise ArtifactError(
            f"trusted key {text[:100]}: {why}", remedy="a key is made by: edge-agent models keygen FILE"
        )
    return key


def _read_key(text: str) -> PublicKey:
    if is_key(text):
        return PublicKey(bytes.fromhex(text))
    path = Path(text)
    try:
        content = plain_file.read(path, MOST_KEY_FILE_BYTES)
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be read ({error.strerror or error})",
            remedy="a trusted key is the path of a public key, or its 64 hexadecimal digits",
        ) from None
    raw = _key_in(content)
    if raw is None:
        what = "a private key; only the public one (.pub) belongs" if b"PRIVATE KEY" in content else "no public key"
        raise ArtifactError(f"{path}: is {what} here; an Ed25519 key in PEM or hexadecimal is wanted")
    return PublicKey(raw)


def _key_in(content: bytes) -> bytes | None:
    try:
        text = content.decode("ascii").strip()
    except UnicodeDecodeError:
        return None
    if is_key(text):
        return bytes.fromhex(text)
    begin, end = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"
    if not (text.startswith(begin) and text.endswith(end)):
        return None
    try:
        der = base64.b64decode("".join(text[len(begin) : -len(end)].split()), validate=True)
    except (binascii.Error, ValueError):
        return None
    return der[len(_SPKI) :] if der.startswith(_SPKI) and len(der) == len(_SPKI) + KEY_BYTES else None


def policy(trusted: Iterable[str], required: bool) -> Policy:
    """ArtifactError where a key cannot be read."""
    return Policy(tuple(public_key(one) for one in trusted), required)


def check(manifest: bytes, signature: bytes | None, wanted: Policy, where: str) -> str | None:
    """The id of the trusted key that signed this manifest; None where nobody has to have and nobody has.

    A signature that is there and is nobody's we trust is refused even where none is required: it is either wrong, or says that
    the model comes from somebody else. Without trusted keys there is nothing to hold it against.
    """
    if signature is None:
        if wanted.required:
            raise ArtifactError(
                f"{where}: is not signed, and the configuration requires it (require_signature)",
                remedy="sign it: edge-agent models sign FOLDER --key FILE",
            )
        return None
    if not wanted.keys:
        return None
    if len(signature) != SIGNATURE_BYTES:
        raise ArtifactError(f"{where}: {FILE} has {len(signature)} bytes, a signature {SIGNATURE_BYTES}")
    if curve.malformed(signature):
        raise ArtifactError(f"{where}: {FILE} is no Ed25519 signature, whoever's", remedy=_AGAIN)
    for key in wanted.keys:
        if is_by(manifest, signature, key, where):
            return key.id
    raise ArtifactError(
        f"{where}: its signature is by none of the {len(wanted.keys)} trusted keys, or the manifest was changed after it",
        remedy=_AGAIN,
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """What a signature is worth here."""

    word: str
    """unsigned, trusted, unknown key, bad, not checked"""
    signer: str | None = None


def standing(folder: Path, wanted: Policy) -> Standing:
    """Of a model in a folder, for people: nothing is refused. An Ed25519 signature does not name its key, so that by a key that we do
    not know and that of a manifest which was changed afterwards look the same."""
    try:
        signature = plain_file.read(folder / FILE, SIGNATURE_BYTES)
        manifest = (folder / "manifest.json").read_bytes()
    except OSError:
        return Standing("unsigned" if not (folder / FILE).exists() else "bad")
    if len(signature) != SIGNATURE_BYTES or curve.malformed(signature):
        return Standing("bad")
    if not wanted.keys:
        return Standing("not checked")
    try:
        signer = next((key.id for key in wanted.keys if is_by(manifest, signature, key)), None)
    except ArtifactError:  # the package that verifies is not there
        return Standing("not checked")
    return Standing("trusted", signer) if signer is not None else Standing("unknown key")


def is_by(manifest: bytes, signature: bytes, key: PublicKey, where: str = "the model") -> bool:
    """Whether the owner of that key signed this very manifest."""
    ed25519, invalid = _verifying(where)
    with contextlib.suppress(invalid):
        ed25519.Ed25519PublicKey.from_public_bytes(key.raw).verify(signature, manifest)
        return True
    return False


def _verifying(where: str) -> tuple[Any, type[Exception]]:
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise ArtifactError(
            f"{where}: is signed; to verify that needs the package cryptography, which is not installed",
            remedy=_INSTALL,
        ) from None
    return ed25519, InvalidSignature


def _serialisation() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise ArtifactError(
            "keys and signatures need the package cryptography, which is not installed", remedy=_INSTALL
        ) from None
    return serialization, ed25519


def keygen(path: Path) -> Path:
    """A new private key at ``path``, its public key at ``path`` + ``.pub``; nothing is overwritten."""
    serialization, ed25519 = _serialisation()
    if not path.name or path.is_dir():
        raise ArtifactError(f"{path}: is a folder", remedy="name the file that the private key shall be")
    public = path.with_name(path.name + ".pub")
    key = ed25519.Ed25519PrivateKey.generate()
    private_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public_pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    made: list[Path] = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for each, content, mode in ((path, private_pem, 0o600), (public, public_pem, 0o644)):
            with os.fdopen(os.open(each, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
                made.append(each)
                out.write(content)
                out.flush()
                os.fsync(out.fileno())
    except OSError as error:
        for each in made:
            with contextlib.suppress(OSError):
                each.unlink()
        if isinstance(error, FileExistsError):
            there = path if not made else public
            raise OutputError(f"{there}: is there already; a key is never overwritten") from None
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from None
    return public


def private_key(path: Path) -> Any:
    serialization, ed25519 = _serialisation()
    try:
        content = plain_file.read(path, MOST_KEY_FILE_BYTES)
        key = serialization.load_pem_private_key(content, None)
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be read ({error.strerror or error})",
            remedy=f"make one with: edge-agent models keygen {path}",
        ) from None
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{path}: not a private key in PEM without a password ({error})") from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise ArtifactError(f"{path}: is no Ed25519 key")
    return key


def sign(manifest: bytes, key: Path) -> bytes:
    """The signature that goes into ``manifest.sig``."""
    signature: bytes = private_key(key).sign(manifest)
    return signature
