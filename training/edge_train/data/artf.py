"""Marks of artefacts as ICM+ keeps them; see `edge_agent.annotation_files.artf`, which the review page writes them with."""

from __future__ import annotations

from pathlib import Path

from edge_agent.annotation_files import artf as files
from edge_agent.annotation_files.artf import (
    Artf,
    Attributes,
    Group,
    Mark,
    parse,
    render,
    time_text,
    time_us,
    write,
)
from edge_agent.errors import SourceError
from edge_train.errors import DataError

__all__ = ["Artf", "Attributes", "Group", "Mark", "parse", "read", "render", "time_text", "time_us", "write"]


def read(path: Path) -> Artf:
    """Raises DataError that names the file and what is wrong with it."""
    try:
        return files.read(path)
    except SourceError as error:
        raise DataError(str(error)) from None
