"""What all tables of settings share: a table that refuses keys it does not know and says where its files are, which are missing and what
of it is published, the name of a host, the part of a topic, and the words in which a wrong value is told."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Strict, ValidationError


class Section(BaseModel):
    # Strict: TOML and JSON have numbers, and a text or `true` in a number's place is a slip ("5", lead_off_s = true).
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)
    must_be_there: ClassVar[tuple[str, ...]] = ()
    """Keys of files without which nothing can begin."""
    secret: ClassVar[tuple[str, ...]] = ()
    """Keys that are not published. Paths are not in any case: they say whose device it is, and sometimes whose recording."""

    def anchored(self, folder: Path) -> Self:
        """Relative paths, here and in the tables below, are relative to the configuration file, wherever the daemon was started."""
        placed = {name: _placed(getattr(self, name), folder) for name in type(self).model_fields}
        return self.model_copy(update={name: new for name, new in placed.items() if new is not getattr(self, name)})

    def missing(self, folder: Path) -> Iterator[str]:
        """What is named here and in the tables below and is not there: the key, and what it says."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, Section):
                yield from (f"{name}.{one}" for one in value.missing(folder))
            elif name in self.must_be_there and value is not None and not (folder / value).is_file():
                yield f"{name}: {value}: no such file"

    def public(self) -> dict[str, Any]:
        """What may be said of it to everybody: JSON, with what is secret, and every path, told as set or not."""
        plain = self.model_dump(mode="json")
        for name in type(self).model_fields:
            value = getattr(self, name)
            plain[name] = SET if name in self.secret and value is not None else _told(value, plain[name])
        return plain


SET = "(set)"


def _told(value: Any, plain: Any) -> Any:
    if isinstance(value, Path):
        return SET
    if isinstance(value, Section):
        return value.public()
    if isinstance(value, dict):
        return {key: _told(one, plain[key]) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_told(one, there) for one, there in zip(value, plain, strict=True)]
    return plain


def _placed(value: Any, folder: Path) -> Any:
    if isinstance(value, Path):
        return folder / value
    if isinstance(value, Section):
        return value.anchored(folder)
    if isinstance(value, list) and any(isinstance(one, Section) for one in value):
        return [_placed(one, folder) for one in value]
    return value


def valid_host(host: str) -> str:
    """What a socket may be asked for: an address, or a name whose parts are none empty and none longer than 63 characters.

    A resolver answers anything else with an error of its own kind (UnicodeError), which no network library expects.
    """
    try:
        ipaddress.ip_address(host)
        return host
    except ValueError:
        pass
    try:
        name = host.encode("idna").decode("ascii").removesuffix(".")
    except UnicodeError:
        name = ""
    if len(name) > 253 or not all(re.fullmatch(r"[A-Za-z0-9_-]{1,63}", label) for label in name.split(".")):
        raise ValueError("is neither a host's name nor an address")
    return host


def printable(topic: str) -> bool:
    """Without what MQTT 3.1.1 (section 1.5.3) lets a broker end the connection for."""
    return not any(
        unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")
        or ord(char) & 0xFFFE == 0xFFFE
        or 0xFDD0 <= ord(char) <= 0xFDEF
        for char in topic
    )


def topic_part(name: str) -> str:
    """A name that may stand in a topic."""
    if not name or any(char in name for char in "+#/\0") or name.startswith("$"):
        raise ValueError("must be a plain topic part: not empty, without '+', '#' and '/', not starting with '$'")
    if not printable(name):
        raise ValueError("must be without control characters: a broker ends the connection for them")
    if len(name) > 100:
        raise ValueError("is longer than 100 characters")
    return name


def together(table: Section, *keys: str) -> None:
    """All of them are given, or none."""
    if len({getattr(table, key) is None for key in keys}) > 1:
        raise ValueError(f"{' and '.join(keys)} go together")


def _possible(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("must be without NUL characters: no file is called so")
    return path


Host = Annotated[str, AfterValidator(valid_host)]
DiskPath = Annotated[Path, Strict(False), AfterValidator(_possible)]
"""A setting's file or folder; TOML has it as a text, which a strict `Path` refuses."""

_KINDS = {
    "string": "text", "int": "a whole number", "float": "a number", "decimal": "a number", "bool": "true or false", "path": "a path",
    "list": "a list", "tuple": "a list", "set": "a list", "frozen_set": "a list", "datetime": "a date and time", "date": "a date",
}  # fmt: skip
_TABLES = ("model", "model_attributes", "dict", "dataclass", "mapping")
PATTERNS = {
    r"^[a-z0-9][a-z0-9-]{0,63}$": "lower-case letters, digits and '-', 64 at most",
    r"^[0-9]{1,6}\.[0-9]{1,6}\.[0-9]{1,6}$": "three numbers with points between, as 1.0.0",
    r"^/[^\s]*$": "a path that begins with '/', without blanks",
    r"^[A-Za-z0-9_.-]{1,64}$": "letters, digits, '_', '.' and '-', 64 at most",
    r"^((usb|pci)?(:[0-9]{1,2})?)$": "'usb', 'pci', ':0', 'usb:0' or 'pci:0' (or another number), or nothing",
}
"""What the patterns of the settings and of a manifest ask for, in words."""


def in_words(wrong: Mapping[str, Any], *, table: str = "a table") -> str:
    """One of ``ValidationError.errors()`` for who wrote the value, not for who wrote the model: after the value's place and a colon.

    ``table``: what a table is called there (JSON: an object).
    """
    kind, context = str(wrong["type"]), wrong.get("ctx", {})
    base = kind.removesuffix("_type").removesuffix("_parsing")
    if kind == "extra_forbidden":
        return "no such key"
    if kind == "missing":
        return "is missing"
    if kind == "int_from_float":
        return "should be a whole number"
    if kind != base and base in _TABLES:
        return f"should be {table}"
    if kind != base and base in _KINDS:
        return f"should be {_KINDS[base]}"
    if kind == "too_short":
        return f"should have at least {context['min_length'] if context['min_length'] > 1 else 'one'}"
    if kind == "too_long":
        return f"should have at most {context['max_length']}"
    if kind == "string_pattern_mismatch":
        return f"should be {PATTERNS.get(context['pattern'], 'of the form ' + context['pattern'])}"
    if kind == "union_tag_invalid":
        return f"{context['discriminator']} should be one of {context['expected_tags']}, not '{context['tag']}'"
    if kind == "union_tag_not_found":
        return f"{context['discriminator']} is missing"
    message = str(wrong["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return re.sub(r"^(Input|String|List|Value) (should|is) ", r"\2 ", message)


def first_in_words(error: ValidationError, whole: str) -> str:
    """Of JSON that is not as it should be: where the first of what is wrong stands (``whole``: in no part of it alone), and what."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place[:200] or whole}: {in_words(first, table='an object')[:200]}"
