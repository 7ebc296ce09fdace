"""Marks of artefacts as ICM+ keeps them: an ``.artf`` file (XML) beside the recording, stretches of time per signal.

::

    <ICMArtefacts>
      <Global><Artefact StartTime="01/01/1970 00:00:05.000" EndTime="01/01/1970 00:00:15.000"/></Global>
      <SignalGroup Name="art"><Artefact ModifiedBy="..." ModifiedDate="..." StartTime="..." EndTime="..."/></SignalGroup>
      <Info HDF5Filename="patient.hdf5" UserID="..."/>
    </ICMArtefacts>

What is read is written again: attributes and elements that mean nothing here are kept as they were, and so is the order. Times
carry no zone; they are counted in microseconds as if they were UTC, as the recording's own index counts them.
"""

from __future__ import annotations

import os
import re
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from edge_agent.errors import SourceError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4}) (\d{1,2}):(\d{2}):(\d{2})(?:[.,](\d{1,6}))?")
_KNOWN = ("ModifiedBy", "ModifiedDate", "StartTime", "EndTime")
_INFO = ("HDF5Filename", "UserID")

Attributes = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """One stretch that somebody called an artefact."""

    start_us: int
    """Microseconds since 1970, the recording's own clock."""
    end_us: int
    modified_by: str | None = None
    modified_us: int | None = None
    other: Attributes = ()
    """Attributes that this module does not know."""


@dataclass(frozen=True, slots=True)
class Group:
    """The marks of one signal, or of all of them."""

    signal: str | None
    """``art``, ``abp``, ``icp``, ...; None for ``Global``: every signal."""
    marks: tuple[Mark, ...]
    other: Attributes = ()


@dataclass(frozen=True, slots=True)
class Artf:
    """A whole file, in its order."""

    groups: tuple[Group, ...]
    hdf5_filename: str | None = None
    user_id: str | None = None
    info: Attributes = ()
    """Attributes of ``Info`` that this module does not know."""
    foreign: tuple[str, ...] = ()
    """Elements that this module does not know, as XML."""

    def of(self, signals: Iterable[str]) -> tuple[Mark, ...]:
        """The marks that hold for a signal (under any of its names), the global ones among them, by time."""
        names = {name.lower() for name in signals}
        found = {
            mark
            for group in self.groups
            if group.signal is None or group.signal.lower() in names
            for mark in group.marks
        }
        return tuple(sorted(found, key=lambda mark: (mark.start_us, mark.end_us)))


def time_us(text: str) -> int:
    """``31/12/2023 23:59:59.123`` as microseconds since 1970. Raises ValueError."""
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"time {text!r} is not of the form 31/12/2023 23:59:59.123")
    day, month, year, hour, minute, second = (int(part) for part in found.groups()[:6])
    fraction = int((found.group(7) or "0").ljust(6, "0"))
    at = datetime(year, month, day, hour, minute, second, fraction, UTC)
    return (at - _EPOCH) // timedelta(microseconds=1)


def time_text(us: int) -> str:
    """The reverse of `time_us`: three decimals, six where three would lose something."""
    at = _EPOCH + timedelta(microseconds=us)
    fraction = f"{at.microsecond // 1000:03d}" if at.microsecond % 1000 == 0 else f"{at.microsecond:06d}"
    return f"{at.day:02d}/{at.month:02d}/{at.year:04d} {at:%H:%M:%S}.{fraction}"


def read(path: Path) -> Artf:
    """Raises SourceError that names the file and what is wrong with it."""
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, ET.ParseError) as error:
        raise SourceError(f"{path}: not an .artf file ({error})") from None


def parse(raw: bytes) -> Artf:
    """Raises ValueError or ParseError."""
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        if b"encoding=" not in raw[:200]:  # users' names are written in the machine's code page, without saying so
            raw = raw.decode("latin-1").encode("utf-8")
    if b"<!DOCTYPE" in raw or b"<!ENTITY" in raw:
        raise ValueError("it defines entities, which no such file needs")
    root = ET.fromstring(raw)
    if root.tag != "ICMArtefacts":
        raise ValueError(f"its root is {root.tag!r}, not 'ICMArtefacts'")
    groups: list[Group] = []
    foreign: list[str] = []
    file = user = None
    info: Attributes = ()
    for element in root:
        if element.tag in ("Global", "SignalGroup"):
            groups.append(_group(element))
        elif element.tag == "Info":
            file, user = element.get("HDF5Filename"), element.get("UserID")
            info = _others(element, _INFO)
        else:
            element.tail = None
            foreign.append(ET.tostring(element, "unicode"))
    return Artf(tuple(groups), file, user, info, tuple(foreign))


def _group(element: ET.Element) -> Group:
    signal = None
    if element.tag == "SignalGroup":
        signal = element.get("Name")
        if not signal:
            raise ValueError("a SignalGroup has no Name")
    marks = []
    for child in element:
        if child.tag != "Artefact":
            raise ValueError(f"{element.tag} holds {child.tag!r}; only Artefact is known there")
        start, end = (child.get(key) for key in ("StartTime", "EndTime"))
        if start is None or end is None:
            raise ValueError("an Artefact has no StartTime or no EndTime")
        modified = child.get("ModifiedDate")
        mark = Mark(
            time_us(start),
            time_us(end),
            child.get("ModifiedBy"),
            None if modified is None else time_us(modified),
            _others(child, _KNOWN),
        )
        if mark.end_us <= mark.start_us:
            raise ValueError(f"an Artefact ends ({end}) before it begins ({start})")
        marks.append(mark)
    return Group(signal, tuple(marks), _others(element, ("Name",)))


def _others(element: ET.Element, known: Iterable[str]) -> Attributes:
    return tuple((key, value) for key, value in element.items() if key not in known)


def render(artf: Artf) -> bytes:
    """The file's text; characters beyond ASCII as references, so that a reader of any code page reads the same."""
    root = ET.Element("ICMArtefacts")
    for group in artf.groups:
        if group.signal is None:
            element = ET.SubElement(root, "Global")
        else:
            element = ET.SubElement(root, "SignalGroup", {"Name": group.signal})
        element.attrib.update(group.other)
        for mark in group.marks:
            child = ET.SubElement(element, "Artefact")
            if mark.modified_by is not None:
                child.set("ModifiedBy", mark.modified_by)
            if mark.modified_us is not None:
                child.set("ModifiedDate", time_text(mark.modified_us))
            child.set("StartTime", time_text(mark.start_us))
            child.set("EndTime", time_text(mark.end_us))
            child.attrib.update(mark.other)
    about = {
        key: value for key, value in zip(_INFO, (artf.hdf5_filename, artf.user_id), strict=True) if value is not None
    }
    about |= dict(artf.info)
    if about:
        ET.SubElement(root, "Info", about)
    ET.indent(root, "\t")
    for place, text in enumerate(artf.foreign, start=len(artf.groups)):  # as it was, not indented
        element = ET.fromstring(text)
        element.tail = "\n\t"
        root.insert(place, element)
    body: bytes = ET.tostring(root, "us-ascii")
    return b'<?xml version="1.0" ?>\n' + body + b"\n"


def write(path: Path, artf: Artf) -> None:
    """Whole or not at all."""
    handle, name = tempfile.mkstemp(prefix=path.name, suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(render(artf))
            out.flush()
            os.fsync(out.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
