"""What is wrong with a configuration, in words: the place, what was found, what is allowed, and the nearest name."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from edge_agent.section import in_words


@dataclass(frozen=True)
class Readers:
    """The models that read the file."""

    root: type[BaseModel]
    stream: type[BaseModel]
    """Of a [[stream]] table."""
    sources: tuple[type[BaseModel], ...]
    """Of its [stream.source], one for each type."""

    @property
    def by_type(self) -> dict[str, type[BaseModel]]:
        """By what stands for them in the file."""
        return {get_args(model.model_fields["type"].annotation)[0]: model for model in self.sources}


def problems(error: ValidationError, data: dict[str, Any], readers: Readers) -> Iterator[str]:
    """A line for each place that is wrong."""
    tags = list(readers.by_type)
    said: dict[str, str] = {}
    for one in error.errors():
        place = _place(one["loc"], data, missing=one["type"] == "missing")
        found = one.get("input")
        if one["type"] == "extra_forbidden":
            said[place] = f"unknown key{_nearest(one['loc'], readers)}"
        elif one["type"] == "missing":
            said[place] = "is missing; write [[stream]], once for each patient" if place == "stream" else "is missing"
        elif place == "stream" and isinstance(found, dict):
            said[place] = "is one table; write [[stream]], once for each patient"
        elif one["type"] in ("union_tag_invalid", "union_tag_not_found"):
            allowed = ", ".join(tags)
            kind = found.get("type") if isinstance(found, dict) else None
            there = "is missing" if kind is None else f"found {_shown(kind)}"
            said[f"{place}.type"] = f"{there}, allowed: {allowed}" + (
                _guess(str(kind), tags) if kind is not None else ""
            )
        else:
            shown = "" if isinstance(found, dict | list) or found is None else f"found {_shown(found)}; "
            message = in_words(one)
            # A union says no once for each of its branches.
            if place not in said:
                said[place] = shown + message
            elif message not in said[place]:
                said[place] += f", or {message.removeprefix('should be ')}"
    return (f"{place}: {problem}" for place, problem in said.items())


def _shown(value: object) -> str:
    """As it stands in the file."""
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, str) else str(value)


def _place(loc: tuple[int | str, ...], data: dict[str, Any], *, missing: bool) -> str:
    """``stream[1] (bed2).source.port``: as a person would point at it."""
    here: Any = data
    text = ""
    for number, part in enumerate(loc, 1):
        if isinstance(part, int):
            here = here[part] if isinstance(here, list) and part < len(here) else {}
            name = here.get("name") if isinstance(here, dict) else None
            text += f"[{part}]" + (f" ({name})" if name else "")
        elif not isinstance(here, dict) or (part not in here and not (missing and number == len(loc))):
            continue  # pydantic names the union's branch; the file does not
        else:
            here = here.get(part, {})
            text += f".{part}" if text else part
    return text or "the file"


def _nearest(loc: tuple[int | str, ...], readers: Readers) -> str:
    """The known key nearest to an unknown one, among those of its own table."""
    model: Any = readers.root
    tagged = readers.by_type
    for before, part in zip((None, *loc), loc[:-1], strict=False):
        if isinstance(part, int):
            continue
        if before == "source" and part in tagged:  # "mqtt" is a table of its own, too
            model = tagged[part]
        elif part == "stream":
            model = readers.stream
        elif part in getattr(model, "model_fields", {}):
            annotation = model.model_fields[part].annotation
            branches = [annotation, *get_args(annotation)]  # a table may be one or none
            model = next((one for one in branches if hasattr(one, "model_fields")), model)
    return _guess(str(loc[-1]), list(getattr(model, "model_fields", {})))


def _guess(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
