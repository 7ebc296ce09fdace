"""Whether 32 bytes are a point of edwards25519 that may stand for somebody: no other, and none of small order (RFC 8032, RFC 7748).

For a key of small order, signatures that hold for every message can be written down without knowing anything: whoever trusts such a key
trusts everybody. The library that verifies takes these keys, so they are refused here, before they are trusted; a signature whose first
half is such a point was made by no signer either.
"""

from __future__ import annotations

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of the group that keys are in."""
_D = -121665 * pow(121666, P - 2, P) % P
_OF_SMALL_ORDER = frozenset(
    int.from_bytes(bytes.fromhex(text), "little")
    for text in (
        "0000000000000000000000000000000000000000000000000000000000000000",  # order 4
        "0100000000000000000000000000000000000000000000000000000000000000",  # 1, the neutral element
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  # 2
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",  # 8
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",  # 8
    )
)
"""Their y; either sign of x."""


def why_no_point(raw: bytes) -> str | None:
    """Why nobody's key, and no honest signature's first half, looks like this."""
    y = int.from_bytes(raw, "little") & ~(1 << 255)
    if y >= P:
        return "is no point of the curve (not written as it must be)"
    if y in _OF_SMALL_ORDER:
        return "is a point of small order: anybody could sign for it"
    square = (y * y - 1) * pow(_D * y * y + 1, P - 2, P) % P
    return None if pow(square, (P - 1) // 2, P) == 1 else "is no point of the curve"


def malformed(signature: bytes) -> bool:
    """Whether no Ed25519 key at all can have made it."""
    return int.from_bytes(signature[32:], "little") >= ORDER or why_no_point(signature[:32]) is not None
