"""What changes something: a correction, an undo, an export."""

from __future__ import annotations

from typing import Any

from edge_agent.review.asking import Bad
from edge_agent.review.corrections import Corrections, Refused, wish
from edge_agent.review.library import Open


def correct(corrections: Corrections, opened: Open, said: dict[str, Any]) -> dict[str, Any]:
    """Raises Refused, Conflict, OutputError."""
    asked = wish(said)
    for at in (asked.sample, asked.first, None if asked.end is None else asked.end - 1):
        if at is not None and at >= opened.waves.samples:
            raise Refused(f"sample {at} is beyond the recording's end")
    if asked.channel is not None and asked.channel not in {one.name for one in opened.waves.signals}:
        raise Refused("there is no such channel")

    def taken() -> None:
        if asked.act in ("add", "move") and asked.sample is not None:
            merged, _ = opened.merged()
            there = merged.beats(asked.sample, asked.sample + 1, 100) or []
            if any(one.id != asked.id and not one.deleted for one in there):
                raise Refused(f"there is a beat at sample {asked.sample} already")

    return {"operation": corrections.apply(opened.name, asked, taken).plain()}


def step(corrections: Corrections, opened: Open, said: dict[str, Any]) -> dict[str, Any]:
    """Undo or redo. Raises Bad, Refused, OutputError."""
    act, who, token = said.get("act"), said.get("who"), said.get("token")
    if (
        act not in ("undo", "redo")
        or not isinstance(who, str)
        or not isinstance(token, str)
        or not 8 <= len(token) <= 64
    ):
        raise Bad("act (undo or redo), who and token are wanted")
    if not token.isascii():
        raise Bad("token: letters, digits and - are wanted")
    operation = corrections.step(opened.name, token, who, act)
    journal = corrections.journal(opened.name)
    target = next((one for one in journal.operations if one.seq == operation.value["target"]), None)
    return {"operation": operation.plain(), "target": None if target is None else target.plain()}


def export(_corrections: Corrections, opened: Open, _said: dict[str, Any]) -> dict[str, Any]:
    """Raises OutputError, SourceError."""
    done = opened.export()
    return {
        "annotations": str(done.annotations),
        "marks": None if done.marks is None else str(done.marks),
        "beats": done.beats,
        "corrected": done.corrected,
        "artefacts": done.artefacts,
    }
