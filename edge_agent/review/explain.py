"""Which samples a beat's class came from: the model is asked again, on the device, with a part of its window blanked each time.

Occlusion (Zeiler and Fergus, 2014), of the very file that the device runs, through its engine: what the score of the class loses where a
tenth of the window is blank, the mean over the blanks that a sample was in. Coarse, and blind to what two stretches say alike; the float
model's gradients (``edge-train explain``) see finer, but need TensorFlow. Features are blanked one by one.

The window is cut by the daemon's own pipeline from the two minutes before the beat, in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.config import InferenceConfig
from edge_agent.errors import EdgeAgentError, SourceError
from edge_agent.inference.judge import Judge
from edge_agent.inference.manifest import BEAT_TASK, FeatureInput, SignalInput
from edge_agent.journey import Block, Samples, Verdict, Window
from edge_agent.replay import BLOCK_S, Settings, open_for_replay, run_blocks, stream_name
from edge_agent.review.labelling import judge_of
from edge_agent.sources.paced import RecordingReader

HISTORY_S = 120.0
AFTER_S = 4.0
NEAR_S = 0.15
SHARE = 10
"""A blank is this part of a window."""
TIMEOUT_S = 60.0
RUN = "import sys; sys.path.insert(0, sys.argv[1]); from edge_agent.review.explain import main; sys.exit(main(sys.argv[2:]))"


def explain(record: Path, sample: int, inference: InferenceConfig) -> dict[str, Any]:
    """Of the beat at (or next to) a sample. Raises SourceError."""
    package = str(Path(__file__).resolve().parent.parent.parent)
    command = [sys.executable, "-c", RUN, package, str(record), str(sample), inference.model_dump_json()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise SourceError("explaining took too long") from None
    if done.returncode:
        raise SourceError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "explaining failed")
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


class _Catcher(Judge):
    """Keeps the windows of beats, and asks nothing."""

    def __init__(self, judge: Judge) -> None:
        super().__init__(judge.models)
        self.windows: list[Window] = []

    def ask(self, window: Window) -> Verdict:
        self.windows.append(window)
        return Verdict(window, None, {}, window.model, "", "", "", reason="not asked")


def occlusion(judge: Judge, window: Window) -> dict[str, Any]:
    """What the score of the label loses, for each input of the window."""
    model = judge.models[window.model]
    manifest = model.artifact.manifest
    verdict = judge.ask(window)
    if verdict.label is None:
        raise SourceError(f"the model says nothing of this beat: {verdict.reason}")
    inputs: list[dict[str, Any]] = []
    for place, part in enumerate(manifest.inputs):
        x = window.inputs[place]
        signal = isinstance(part, SignalInput)
        width = max(1, x.size // SHARE) if signal else 1
        total, count = np.zeros(x.size), np.zeros(x.size)
        for first in range(0, x.size - width + 1, max(1, width // 4)):
            blank = x.copy()
            blank[first : first + width] = x.mean() if signal else 0
            asked = Window(
                window.model, window.channel, window.sample, window.known,
                tuple(blank if i == place else other for i, other in enumerate(window.inputs)), None, window.feeding,
            )  # fmt: skip
            total[first : first + width] += verdict.scores[verdict.label] - judge.ask(asked).scores[verdict.label]
            count[first : first + width] += 1
        lost = total / np.maximum(count, 1)
        about: dict[str, Any] = {"name": part.name, "kind": part.kind, "lost": [round(v, 5) for v in lost.tolist()]}
        if isinstance(part, SignalInput):
            about |= {"rate_hz": part.rate_hz, "before": part.before, "source": part.source}
        elif isinstance(part, FeatureInput):
            about["features"] = list(part.features)
        inputs.append(about)
    return {
        "method": "occlusion",
        "model": f"{verdict.model} {verdict.version}",
        "backend": verdict.backend,
        "label": verdict.label,
        "score": round(verdict.scores[verdict.label], 4),
        "scores": {name: round(score, 4) for name, score in verdict.scores.items()},
        "inputs": inputs,
    }


def of_beat(record: Path, sample: int, inference: InferenceConfig) -> dict[str, Any]:
    """Raises EdgeAgentError."""
    models = judge_of(inference).models
    judge = Judge({name: one for name, one in models.items() if one.artifact.manifest.task == BEAT_TASK})
    if not judge.models:
        raise SourceError("no model of beats runs here")
    recording, info = open_for_replay(record, Settings(), fs=None, all_leads=False)
    try:
        fs = info.fs
        begin_s = max(0, int(sample / fs - HISTORY_S))
        reader = RecordingReader(recording, offset_s=begin_s)
        begin = round(begin_s * fs)
        stop = sample - begin + AFTER_S * fs

        def blocks() -> Iterator[Block]:
            while (block := reader.read(round(BLOCK_S * fs))) is not None and block.first < stop:
                yield block

        catcher = _Catcher(judge)
        for _ in run_blocks(info, blocks(), catcher, Settings(), stream_name(record)):
            pass
    finally:
        recording.close()
    near = [one for one in catcher.windows if abs(one.sample + begin - sample) <= NEAR_S * fs]
    if not near:
        raise SourceError("the model found no beat there")
    window = min(near, key=lambda one: abs(one.sample + begin - sample))
    if window.abstain is not None:
        raise SourceError(f"the model was not asked about this beat: {window.abstain}")
    return {"sample": window.sample + begin, "channel": window.channel, "fs": fs, **occlusion(judge, window)}


def main(arguments: list[str]) -> int:
    record, sample, inference = arguments
    try:
        print(json.dumps(of_beat(Path(record), int(sample), InferenceConfig.model_validate_json(inference))))
    except (EdgeAgentError, OSError) as error:
        print(str(error).replace("\n", ";"), file=sys.stderr)
        return 1
    return 0


__all__ = ["Samples", "explain", "occlusion", "of_beat"]
