"""Lines and branches that the tests went through, room by room: of `coverage json`'s report.

    python -m tools.coverage_rooms reports/coverage.json [--least ROOM=SHARE ...]

With ``--least`` it exits 1 where a room's branches fall short.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT_ROOM = "(top)"
"""What lies in no folder of `edge_agent`."""


def rooms(report: Mapping[str, Any]) -> dict[str, Counter[str]]:
    """Of each folder of `edge_agent`: coverage's own counts, added up."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for file, what in report["files"].items():
        parts = Path(file).parts
        below = parts[parts.index("edge_agent") + 1 :]
        found[below[0] if len(below) > 1 else ROOT_ROOM].update(
            {
                name: what["summary"][name]
                for name in ("num_statements", "covered_lines", "num_branches", "covered_branches")
            }
        )
    return dict(sorted(found.items()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("--least", action="append", default=[], metavar="ROOM=SHARE")
    asked = parser.parse_args()
    found = rooms(json.loads(asked.report.read_text(encoding="utf-8")))
    least = {room: float(share) for room, _, share in (one.partition("=") for one in asked.least)}
    short = 0
    print("| room | lines | branches |\n| --- | --- | --- |")
    for room, n in found.items():
        share = n["covered_branches"] / max(1, n["num_branches"])
        fails = share < least.get(room, 0.0)
        short += fails
        lines = f"{n['covered_lines'] / max(1, n['num_statements']):.1%} of {n['num_statements']}"
        print(f"| {room} | {lines} | {share:.1%} of {n['num_branches']}{' (too few)' if fails else ''} |")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
