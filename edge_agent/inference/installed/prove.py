"""Proving a model in a process of its own, before it may come near the one that watches a patient.

A TFLite file is a program for a runtime in C++: what is wrong with it may end the process, or never answer. Both are worth one
line here.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from edge_agent.errors import ArtifactError, EdgeAgentError
from edge_agent.inference.artifact import load, open_engine, verify
from edge_agent.inference.tflite.vet import vetted

WITHIN_S = 60.0
# -P: whoever stands in a folder of somebody else's must not import what lies there.
# This very agent, and not another version that lies on the path; nothing else of its folder goes before the standard library.
_CHILD = (
    "import sys; sys.path.insert(0, sys.argv[1]); import edge_agent; sys.path.remove(sys.argv[1]); sys.path.append(sys.argv[1]); "
    "from edge_agent.inference.installed.prove import main; sys.exit(main(sys.argv[2]))"
)
_ROOT = str(Path(__file__).resolve().parents[3])
_MARK = "edge-agent-proof: "


@dataclass(frozen=True, slots=True)
class Proof:
    backend: str
    cases: int
    worst: float
    """Largest difference from the golden outputs."""
    tolerance: float


def prove_apart(folder: Path, *, within_s: float = WITHIN_S) -> Proof:
    """Run a verified model on its golden vectors in a child. ArtifactError with the reason where it must not be run."""
    where = folder / "model.tflite"
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _CHILD, _ROOT, str(folder.absolute())],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=within_s,
            check=False,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        raise ArtifactError(f"{where}: has not answered its golden vectors within {within_s:g} s") from None
    for line in done.stdout.splitlines():
        if line.startswith(_MARK):
            told = json.loads(line.removeprefix(_MARK))
            if "what" in told:
                raise ArtifactError(told["what"], remedy=told["remedy"])
            return Proof(**told)
    if done.returncode < 0:
        raise ArtifactError(f"{where}: the runtime died of it ({signal.strsignal(-done.returncode)})")
    said = done.stderr.strip().splitlines()
    raise ArtifactError(f"{where}: could not be proved ({said[-1] if said else f'status {done.returncode}'})")


def main(folder: str) -> int:
    try:
        artifact = load(Path(folder))
        if artifact.edgetpu is not None:  # nobody may have a TPU for months, and then it would be refused
            vetted(artifact.edgetpu, artifact.edgetpu_path, compiled=True)
        engine = open_engine(artifact)
        about = artifact.manifest.golden
        proof = Proof(engine.backend, len(artifact.golden_outputs), verify(artifact, engine), about.tolerance)
    except EdgeAgentError as error:
        print(_MARK + json.dumps({"what": error.what, "remedy": error.remedy}))
        return 1
    print(_MARK + json.dumps(asdict(proof)))
    return 0
