"""What all tables of settings share: a table that refuses keys it does not know, and the name of a host."""

from __future__ import annotations

import ipaddress
import re
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


Host = Annotated[str, AfterValidator(valid_host)]
