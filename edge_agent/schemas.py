"""JSON schemas of every message and of reports, made from `events` and `bench.report`: ``python -m edge_agent.schemas FOLDER``."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from edge_agent.bench.report import REPORT_MESSAGES
from edge_agent.events import ALL_MESSAGES, Message
from edge_agent.inference.manifest import SCHEMA, Manifest


def file_name(message: type[Message]) -> str:
    """``Alarm`` of edge-agent/alarm/1 is ``alarm-1.json``; what has no version of its own goes by its class."""
    field = message.model_fields.get("schema_")
    if field is None:
        return re.sub(r"(?<!^)(?=[A-Z])", "-", message.__name__).lower() + ".json"
    return str(field.default).removeprefix("edge-agent/").replace("/", "-") + ".json"


def schema(message: type[Message]) -> dict[str, Any]:
    made = message.model_json_schema(by_alias=True, mode="serialization")
    for part in (made, *made.get("$defs", {}).values()):
        # We refuse unknown fields when we make a message; who reads one must not, since additions keep the version.
        part.pop("additionalProperties", None)
        if "schema" in part.get("properties", {}):
            part["required"] = sorted({"schema", *part.get("required", [])})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def manifest_schema() -> dict[str, Any]:
    """Of ``manifest.json``. Here unknown keys are refused, and the schema says so."""
    made = Manifest.model_json_schema(by_alias=True, mode="validation")
    made["required"] = sorted({"schema", *made.get("required", [])})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def write(folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for message in (*ALL_MESSAGES, *REPORT_MESSAGES):
        path = folder / file_name(message)
        path.write_text(json.dumps(schema(message), indent=2) + "\n", encoding="utf-8")
        written.append(path)
    path = folder / (SCHEMA.removeprefix("edge-agent/").replace("/", "-") + ".json")
    path.write_text(json.dumps(manifest_schema(), indent=2) + "\n", encoding="utf-8")
    return [*written, path]


if __name__ == "__main__":
    for path in write(Path(sys.argv[1])):
        print(path)
