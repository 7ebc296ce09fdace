"""Signatures: who vouches for a model, and what happens without."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.errors import ArtifactError, OutputError
from edge_agent.inference.artifact import load
from edge_agent.inference.installed import curve, signature
from edge_agent.inference.installed.signature import Policy, keygen, private_key, public_key, sign
from tests.conftest import ROOT
from tests.inference.tiny import write

pytest.importorskip("cryptography")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    keygen(tmp_path / "keys" / "edge.pem")
    return tmp_path / "keys" / "edge.pem"


def trusting(*keys: Path, required: bool = True) -> Policy:
    return Policy(tuple(public_key(f"{path}.pub") for path in keys), required)


def signed(folder: Path, key: Path) -> Path:
    (folder / signature.FILE).write_bytes(sign((folder / "manifest.json").read_bytes(), key))
    return folder


def refused(folder: Path, policy: Policy, *words: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        load(folder, policy)
    first = str(caught.value).split("\n")[0]
    assert str(folder) in first
    first = first.replace(str(folder), "")  # the folder has the test's name, which has the word that is looked for
    for word in words:
        assert word in first, first


def test_a_key_pair(key: Path) -> None:
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    public = Path(f"{key}.pub")
    found = public_key(str(public))
    assert found == public_key(found.raw.hex()) == public_key(found.raw.hex().upper())
    # By the word of another program: RFC 8410.
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-in", str(public), "-outform", "DER"], capture_output=True, check=True
    ).stdout
    assert der.endswith(found.raw)


def test_a_key_is_never_overwritten(key: Path, tmp_path: Path) -> None:
    before = key.read_bytes(), Path(f"{key}.pub").read_bytes()
    with pytest.raises(OutputError, match=r"edge\.pem: is there already"):
        keygen(key)
    assert (key.read_bytes(), Path(f"{key}.pub").read_bytes()) == before
    lonely = tmp_path / "lonely.pem"
    Path(f"{lonely}.pub").write_text("theirs", encoding="utf-8")
    with pytest.raises(OutputError, match=r"lonely\.pem\.pub: is there already"):
        keygen(lonely)
    assert not lonely.exists()
    (tmp_path / "link.pem").symlink_to(tmp_path / "elsewhere")  # a dangling link is not written through
    with pytest.raises(OutputError, match="is there already"):
        keygen(tmp_path / "link.pem")
    assert not (tmp_path / "elsewhere").exists()


def test_what_a_trusted_key_signed_loads(key: Path, tmp_path: Path) -> None:
    folder = signed(write(tmp_path), key)
    keygen(tmp_path / "other.pem")
    both = trusting(tmp_path / "other.pem", key)
    assert load(folder, both).signer == public_key(f"{key}.pub").id
    assert load(folder).signer is None


def test_what_nobody_signed(key: Path, tmp_path: Path) -> None:
    folder = write(tmp_path)
    refused(folder, trusting(key), "is not signed", "require_signature")
    assert load(folder, trusting(key, required=False)).signer is None


@pytest.mark.parametrize("required", [True, False])
def test_a_wrong_signature_is_refused_even_where_none_is_required(required: bool, key: Path, tmp_path: Path) -> None:
    folder = signed(write(tmp_path), key)
    good = (folder / signature.FILE).read_bytes()
    for at in range(0, 64, 9):
        bad = bytearray(good)
        bad[at] ^= 1
        (folder / signature.FILE).write_bytes(bad)
        refused(folder, trusting(key, required=required), "signature")
    for wrong in (b"", good[:-1], good + b"\0", good.hex().encode()):
        (folder / signature.FILE).write_bytes(wrong)
        refused(folder, trusting(key, required=required), f"has {len(wrong)} bytes, a signature 64")


def test_another_maker_is_refused(key: Path, tmp_path: Path) -> None:
    keygen(tmp_path / "other.pem")
    refused(signed(write(tmp_path), tmp_path / "other.pem"), trusting(key), "by none of the 1 trusted keys")


def test_a_changed_manifest_is_refused_before_it_is_parsed(key: Path, tmp_path: Path) -> None:
    folder = signed(write(tmp_path), key)
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b"1.0.0", b"9.0.0"))
    refused(folder, trusting(key), "signature")
    path.write_bytes(b"{" * 100)  # no JSON: the signature is what is said
    refused(folder, trusting(key), "signature")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "no public key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no public key"),
        (b"\xff\xfe", "no public key"),
        (b"00" * 31, "no public key"),
        (b"-----BEGIN PRIVATE KEY-----\n", "a private key"),
    ],
    ids=["empty", "short", "binary", "short digits", "private"],
)
def test_files_that_are_no_public_key(content: bytes, word: str, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=word):
        public_key(str(path))
    with pytest.raises(ArtifactError, match="cannot be read"):
        public_key(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("read", [lambda path: public_key(str(path)), private_key], ids=["public", "private"])
def test_a_key_is_a_plain_file(read: Callable[[Path], object], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArtifactError, match=r"pipe: cannot be read \(is no plain file"):
        read(tmp_path / "pipe")


def test_keys_of_another_kind_do_not_sign(tmp_path: Path) -> None:
    path = tmp_path / "rsa.pem"
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(path)],
        capture_output=True,
        check=True,
    )
    with pytest.raises(ArtifactError, match="is no Ed25519 key"):
        sign(b"{}", path)
    path.write_text("nothing", encoding="utf-8")
    with pytest.raises(ArtifactError, match="not a private key"):
        sign(b"{}", path)
    with pytest.raises(ArtifactError, match="models keygen"):
        sign(b"{}", tmp_path / "nowhere")


def test_openssl_agrees(key: Path, tmp_path: Path) -> None:
    """Whoever has no edge-agent at hand can sign and verify, too."""
    folder = write(tmp_path)
    raw, sig = folder / "manifest.json", folder / signature.FILE
    made = subprocess.run(
        ["openssl", "pkeyutl", "-sign", "-inkey", str(key), "-rawin", "-in", str(raw), "-out", str(sig)],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("this openssl does not sign with Ed25519")
    assert load(folder, trusting(key)).signer
    assert sig.read_bytes() == sign(raw.read_bytes(), key)


def test_without_the_package_it_is_said_what_to_install(
    key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, policy = signed(write(tmp_path), key), trusting(key, required=False)
    unsigned = write(tmp_path / "two")
    for module in [name for name in sys.modules if name.split(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(ArtifactError, match=r"needs the package cryptography[\s\S]*\[signatures\]"):
        load(folder, policy)
    with pytest.raises(ArtifactError, match=r"need the package cryptography[\s\S]*\[signatures\]"):
        keygen(tmp_path / "new.pem")
    load(unsigned, policy)
    load(folder)  # nobody asked


def test_nothing_is_imported_where_nobody_asks() -> None:
    """The start must not pay for what it does not use."""
    code = (
        "import sys; from edge_agent.daemon import Daemon; from edge_agent.inference.loaded import *;"
        "load_models(shipped_models(), ['ecg-af-rr']); print('cryptography' in sys.modules, 'zipfile' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "False"


def _add(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    """RFC 8032, 5.1.4, in plain coordinates."""
    d = -121665 * pow(121666, -1, curve.P) % curve.P
    (x1, y1), (x2, y2) = one, other
    k = d * x1 * x2 * y1 * y2 % curve.P
    x = (x1 * y2 + x2 * y1) * pow(1 + k, -1, curve.P) % curve.P
    y = (y1 * y2 + x1 * x2) * pow(1 - k, -1, curve.P) % curve.P
    return x, y


def points_of_small_order() -> list[tuple[int, int]]:
    """Found, not copied: any point times the order of the group leaves its part of small order."""
    p, d = curve.P, -121665 * pow(121666, -1, curve.P) % curve.P
    found = {(0, 1)}
    y = 2
    while len(found) < 8:
        y += 1
        square = (y * y - 1) * pow(d * y * y + 1, -1, p) % p
        x = pow(square, (p + 3) // 8, p)
        x = x if (x * x - square) % p == 0 else x * pow(2, (p - 1) // 4, p) % p
        if (x * x - square) % p:
            continue
        point, doubled, left = (0, 1), (x, y), curve.ORDER
        while left:
            point = _add(point, doubled) if left & 1 else point
            doubled, left = _add(doubled, doubled), left >> 1
        multiple = point
        for _ in range(8):
            found.add(multiple)
            multiple = _add(multiple, point)
    return sorted(found)


def test_a_key_of_small_order_is_nobodys() -> None:
    """The library takes them, and a signature that holds for every message is easily written for them."""
    points = points_of_small_order()
    assert len(points) == 8
    written = {y | (x & 1) << 255 for x, y in points}
    written |= {(y + curve.P) | sign << 255 for y in (0, 1) for sign in (0, 1)}  # the same, not as it must be written
    written |= {y | 1 << 255 for x, y in points}
    for number in sorted(written):
        key = number.to_bytes(32, "little").hex()
        with pytest.raises(ArtifactError, match=f"trusted key {key}: is a? ?(point of small order|no point)"):
            public_key(key)
    for number in (2, 2**255 - 1, curve.P):  # no point at all, and two that are not written as they must be
        with pytest.raises(ArtifactError, match="no point of the curve"):
            public_key(number.to_bytes(32, "little").hex())


def test_that_matters(tmp_path: Path) -> None:
    """With the neutral element as the key, R = 1 and S = 0 is a signature of anything."""
    path = write(tmp_path)
    (path / signature.FILE).write_bytes(bytes([1]) + bytes(63))
    neutral = signature.PublicKey(bytes([1]) + bytes(31))
    with pytest.raises(ArtifactError, match="no Ed25519 signature"):
        load(path, Policy((neutral,), True))


def test_good_keys_are_points(tmp_path: Path) -> None:
    for number in range(50):
        keygen(tmp_path / f"{number}.pem")
        key = public_key(str(tmp_path / f"{number}.pem.pub"))
        assert not curve.malformed(sign(b"a message", tmp_path / f"{number}.pem"))
        assert curve.why_no_point(key.raw) is None
