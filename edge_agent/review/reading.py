"""What is answered of a recording: its signal in tiles, its beats and segments, what comes next, what others did."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_agent.review import picture
from edge_agent.review.asking import LATEST, Bad, stretch, whole_number
from edge_agent.review.export import ANNOTATOR, plain_name
from edge_agent.review.library import Open
from edge_agent.review.merged import FILTERS, SEGMENT_S
from edge_agent.review.pyramid import FINEST, STEP, TILE
from edge_agent.review.serve import missing
from edge_agent.review.strip_of import strip_of

try:
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
except ImportError:
    raise missing() from None

MOST_BEATS = 4000
MOST_BINS = 2000


def about(opened: Open, _request: Request) -> Response:
    waves = opened.waves
    merged, journal = opened.merged()
    return JSONResponse(
        {
            "name": opened.name,
            "fs": waves.fs,
            "samples": waves.samples,
            "began": None if waves.began is None else waves.began.isoformat(),
            "signals": [{"name": one.name, "kind": one.kind, "unit": one.unit} for one in waves.signals],
            "levels": opened.pyramid.levels,
            "step": STEP,
            "tile": TILE,
            "finest": FINEST,
            "segment_s": SEGMENT_S,
            "reference": bool(opened.reference[0].size),
            "said": opened.said,
            **progress(opened, merged.counts(), journal.seq),
        }
    )


def progress(opened: Open, counts: dict[str, int], seq: int) -> dict[str, Any]:
    found = opened.found
    return {
        "seq": seq,
        "version": found.version,
        "counts": counts,
        "models": {"state": found.state, "reached": found.reached, "why": found.why},
        "pyramid": opened.pyramid.reached,
    }


def changes(opened: Open, request: Request) -> Response:
    """What others did since, and how far the models and the pyramid are."""
    after = whole_number(request, "after", 0, LATEST)
    merged, journal = opened.merged()
    fresh = [one.plain() for one in journal.operations if one.seq > after][-200:]
    return JSONResponse({**progress(opened, merged.counts(), journal.seq), "operations": fresh})


def tile(opened: Open, request: Request) -> Response:
    level = whole_number(request, "level", 0, 40)
    index = whole_number(request, "index", 0, 10**9)
    try:
        found = opened.pyramid.tile(level, index)
    except ValueError as error:
        raise Bad(str(error)) from None
    both = [found.low] if level == 0 else [found.low, found.high]
    body = np.ascontiguousarray(np.stack(both, axis=1), "<f4").tobytes()
    headers = {"x-whole": "1" if found.whole else "0"}
    return Response(body, media_type="application/octet-stream", headers=headers)


def beats(opened: Open, request: Request) -> Response:
    first, end = stretch(request, opened)
    merged, journal = opened.merged()
    there = merged.beats(first, end, MOST_BEATS)
    segments = [one for one in merged.segments if one.first < end and one.end > first]
    return JSONResponse(
        {
            "seq": journal.seq,
            "version": merged.version[0],
            "beats": None if there is None else [one.plain() for one in there],
            "segments": [one.plain() for one in segments] if len(segments) <= MOST_BEATS else None,
            "alarms": list(opened.found.alarms(first, end))[:MOST_BEATS],
            "marks": opened.found.marks(first, end)[:MOST_BEATS],
            "reviewed": [[one.value["first"], one.value["end"]] for one in journal.reviewed],
        }
    )


def overview(opened: Open, request: Request) -> Response:
    bins = whole_number(request, "bins", 1, MOST_BINS)
    merged, journal = opened.merged()
    samples, fs = opened.waves.samples, opened.waves.fs
    made = merged.overview(bins, samples, fs)
    vitals = opened.found.vitals
    pressure: list[list[float | None]] = []
    for column in (2, 3):
        row: list[float | None] = [None] * bins
        where = np.minimum(vitals[:, 0] * bins // max(1, samples), bins - 1).astype(int)
        for i in range(bins) if vitals.size and np.isfinite(vitals[:, column]).any() else ():
            part = vitals[where == i, column]
            part = part[np.isfinite(part)]
            row[i] = round(float(np.median(part)), 1) if part.size else None
        pressure.append(row)
    abnormal = [[one.first, one.end] for one in merged.segments if one.abnormal][:MOST_BEATS]
    alarms = [[one["sample"], one["until"], one["priority"], one["kind"]] for one in opened.found.alarms(0, samples)][
        :MOST_BEATS
    ]
    return JSONResponse(
        {
            **made,
            "systolic": pressure[0],
            "diastolic": pressure[1],
            "abnormal": abnormal,
            "alarms": alarms,
            "reviewed": [[one.value["first"], one.value["end"]] for one in journal.reviewed],
        }
    )


def following(opened: Open, request: Request) -> Response:
    which = request.query_params.get("filter", "all")
    if which not in FILTERS:
        raise Bad(f"filter: one of {', '.join(FILTERS)} is wanted")
    at = whole_number(request, "at", 0, LATEST)
    forward = request.query_params.get("way") != "back"
    merged, _ = opened.merged()
    if which == "segments":
        segment = merged.next_segment(at, forward)
        return JSONResponse({"segment": None if segment is None else segment.plain()})
    beat = merged.next(which, at, forward)
    return JSONResponse({"beat": None if beat is None else beat.plain()})


def detail(opened: Open, request: Request) -> Response:
    return JSONResponse({"detail": opened.found.detail(whole_number(request, "sample", 0, LATEST))})


def strip(opened: Open, request: Request) -> Response:
    first, end = stretch(request, opened, picture.LONGEST_S)
    text = strip_of(opened, first, end)
    name = "".join(char if char.isalnum() or char in "-_" else "_" for char in opened.name)[:80]
    headers = {"content-disposition": f'inline; filename="{name}-{first}.svg"'} if name.isascii() else {}
    return Response(text, media_type="image/svg+xml", headers=headers)


def beats_file(opened: Open, _request: Request) -> Response:
    return _file(f"{plain_name(opened.name)}.{ANNOTATOR}", opened.annotations())


def marks_file(opened: Open, _request: Request) -> Response:
    return _file(f"{plain_name(opened.name)}.artf", opened.marks())


def _file(name: str, content: bytes) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type="application/octet-stream", headers=headers)
