"""Foreign text on a terminal: names in a model's manifest, an error that quotes a file, what a library says of itself.

An escape sequence in it could rewrite the screen, a line break forge a line of ours, a mark turn the direction of writing. So all that a
command shows and that did not come from us goes through here.
"""

from __future__ import annotations


def plain(text: object) -> str:
    """On one line: whatever is not printable as its escape (``\\x1b``, ``\\n``, ``\\u202e``)."""
    said = str(text)
    return said if said.isprintable() else "".join(map(_escaped, said))


def lines(text: object) -> str:
    """The same of a text of several lines, such as an error with its remedy."""
    return "\n".join(map(plain, str(text).split("\n")))


def _escaped(char: str) -> str:
    return char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
