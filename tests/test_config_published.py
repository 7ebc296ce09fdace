"""What is published of the configuration: no path, no secret, and none of a key that somebody adds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import UnionType
from typing import Annotated, Literal, get_args, get_origin

from edge_agent.config import Config, InferenceConfig, load
from edge_agent.section import Section


def parts(annotation: object) -> set[object]:
    """What an annotation is made of: of list[Path] | None it is list, Path and None."""
    inner = [parts(one) for one in get_args(annotation)] if get_origin(annotation) is not Literal else []
    return set().union({annotation if not inner else get_origin(annotation)}, *inner)


def tables(table: type[Section]) -> set[type[Section]]:
    """It and those that can stand in it."""
    inner = [parts(field.annotation) for field in table.model_fields.values()]
    found = {one for one in set().union(*inner) if isinstance(one, type) and issubclass(one, Section)}
    return {table}.union(*(tables(one) for one in found))


FIELDS = sorted(
    ((table, name, field.annotation) for table in tables(Config) for name, field in table.model_fields.items()),
    key=lambda one: (one[0].__name__, one[1]),
)


def test_the_walk_over_the_tables_finds_them() -> None:
    found = {table.__name__ for table, _, _ in FIELDS}
    assert found >= {"Config", "FileSource", "MqttConfig", "TlsConfig", "TpuConfig", "JsonlConfig", "ReviewConfig"}


class Deep(Section):
    here: Path


class Hiding(Section):
    secret = ("word", "none")
    word: str
    none: str | None = None
    path: Path | Literal["demo"]
    paths: list[Path]
    pair: tuple[int, Path]
    named: dict[str, Path]
    deep: list[Deep]
    table: Deep | None


def test_a_table_publishes_no_path_and_no_secret_whatever_they_stand_in() -> None:
    there, deep = Path("sesame"), Deep(here=Path("sesame"))
    table = Hiding(
        word="sesame", path=there, paths=[there], pair=(1, there), named={"a": there}, deep=[deep], table=deep
    )
    assert table.public() == {
        "word": "(set)", "none": None, "path": "(set)", "paths": ["(set)"], "pair": [1, "(set)"], "named": {"a": "(set)"},
        "deep": [{"here": "(set)"}], "table": {"here": "(set)"},
    }  # fmt: skip
    assert table.model_copy(update={"path": "demo"}).public()["path"] == "demo"


def test_every_path_and_secret_of_the_settings_is_one_that_is_known_as_such() -> None:
    """A new key is hidden by its type; one that is a secret and no path, and whose name says so, must be said to be one."""
    containers = {one for _, _, annotation in FIELDS if Path in parts(annotation) for one in parts(annotation)}
    forms = {one for one in containers if isinstance(one, type) and one not in (Path, type(None))}
    assert forms <= {list, tuple, dict, UnionType, Annotated}, "what Section.public knows how to look into"
    doubtful = re.compile("pass|user|secret|token|credential|key")
    named = [(table, name) for table, name, kind in FIELDS if doubtful.search(name) and Path not in parts(kind)]
    assert named
    of_its_own = [(InferenceConfig, "trusted_keys")]  # publishes those that are keys, and not those that are paths
    assert [(table, name) for table, name in named if name not in table.secret] == of_its_own


def test_a_whole_configuration_publishes_no_path(tmp_path: Path) -> None:
    (tmp_path / "sesame").mkdir()
    for name in ("100.hea", "key.pub"):
        (tmp_path / "sesame" / name).write_text("", encoding="utf-8")
    text = """
        inference = { models_dir = "sesame", store = "sesame/store", trusted_keys = ["sesame/key.pub"], tpu.delegate = "sesame/lib" }
        recorder.folder = "sesame"
        jsonl.path = "sesame/lines"
        review = { recordings = "sesame", state = "sesame/state" }
        outbox.folder = "sesame"
        [[stream]]
        name = "bed1"
        source = { type = "file", path = "sesame/100" }
    """
    (tmp_path / "edge.toml").write_text(text, encoding="utf-8")
    assert "sesame" not in json.dumps(load(tmp_path / "edge.toml").public())
