"""What all tables of settings share: a table that refuses keys it does not know, the name of a host, the part of a topic."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


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


Host = Annotated[str, AfterValidator(valid_host)]
