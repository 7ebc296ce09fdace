"""``manifest.json``: all that the pipeline must know to feed a model and to read its answer (``edge-agent/model/1``)."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from edge_agent.signal.usual_beat import SHAPE_FEATURES as SHAPE_FEATURES
from edge_agent.signal.usual_beat import ShapeFeature

SCHEMA = "edge-agent/model/1"
COMPILED_FILE = "model_edgetpu.tflite"
"""The same model, compiled for the Edge TPU: where an artifact has one it is named so."""
Task = Literal["ecg-beat", "ecg-rhythm", "abp-segment", "alarm", "other"]
BEAT_TASK: Task = "ecg-beat"
RHYTHM_TASK: Task = "ecg-rhythm"
SEGMENT_TASK: Task = "abp-segment"
"""Those of which the pipeline makes more than a verdict."""
LARGEST_INPUT = 1_000_000
LEAST_STRIDE_S = 0.05
"""Twenty windows a second: what is asked about a signal changes no faster, and a window at every sample would starve the stream."""
VERSION = r"^[0-9]{1,6}\.[0-9]{1,6}\.[0-9]{1,6}$"

SignalKind = Literal["ecg", "abp", "pleth"]
RrFeature = Literal[
    "rr_last_log",
    "rr_median8_log",
    "rr_mean32_log",
    "rr_prev_median8_log",
    "rr_cv16",
    "rr_step8",
    "rr_p10_60s_log",
    "rr_p50_60s_log",
    "rr_p75_60s_log",
    "rr_p90_60s_log",
    "rr_p10_300s_log",
    "rr_p50_300s_log",
    "rr_p75_300s_log",
    "rr_p90_300s_log",
    "rr_prev_p75_60s_log",
    "rr_prev_p90_60s_log",
    "rr_prev_p75_300s_log",
    "rr_prev_p90_300s_log",
    "rr_p10_p50_10s_log",
    "rr_p90_p50_10s_log",
    "rr_p10_p50_60s_log",
    "rr_p90_p50_60s_log",
    "rr_p10_p50_300s_log",
    "rr_p90_p50_300s_log",
    "rr_cv_10s",
    "rr_mad_10s",
    "rr_step_10s",
    "rr_cv_30s",
    "rr_mad_30s",
    "rr_step_30s",
    "rr_cv_60s",
    "rr_mad_60s",
    "rr_step_60s",
]
FeatureName = RrFeature | ShapeFeature
RR_FEATURES: tuple[str, ...] = get_args(RrFeature)


class Strict(BaseModel):
    """Unknown keys are refused: a manifest that says more than we understand must not be half understood."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _true_is_no_number(cls, data: Any) -> Any:
        """To Python it is 1: a tolerance of true would be one of 1."""
        for name, value in data.items() if isinstance(data, dict) else ():
            about = cls.model_fields.get(name)
            if isinstance(value, bool) and about is not None and about.annotation is not bool:
                raise ValueError(f"{name} is {str(value).lower()}, which is no value of it")
        return data


class Input(Strict):
    name: str = Field(min_length=1, max_length=100)
    tensor: str | Annotated[int, Field(ge=0, lt=64)] | None = Field(
        default=None,
        description="Which of the file's inputs this is: the tensor's name, or its place among the inputs as the file lists them (0 is"
        " the first). Where nothing is said: the one named like this input, by the file's signature or as NAME, NAME:0 or"
        " serving_default_NAME:0; else, where their names differ in a number alone, by that number.",
    )


class SignalInput(Input):
    """A stretch of one signal around (or before) the anchor, resampled and normalised."""

    kind: Literal["signal"]
    signal: SignalKind
    rate_hz: float = Field(gt=0, le=2000)
    samples: int = Field(gt=0, le=100_000)
    before: int = Field(ge=0, description="Samples of the window that lie before the anchor, at rate_hz.")
    source: Literal["signal", "usual"] = Field(
        default="signal",
        description="signal: the channel itself; usual: the mean of the patient's last usual beats there, 0 while there is none.",
    )
    normalisation: Literal["none", "zscore", "minmax", "centre", "usual", "fixed"] = Field(
        description="none: physical units; centre: minus the median; zscore: (x-mean)/std; minmax: 0 to 1; usual: (x-mean)/std"
        " of the usual beat there (its own while there is none), so that this beat's size against it is kept; fixed: (x-offset)*scale."
        " Each channel by itself. A window without any variation becomes zeros."
    )
    scale: float | None = Field(default=None, allow_inf_nan=False, description="Of fixed; 1 where nothing is said.")
    offset: float | None = Field(
        default=None, allow_inf_nan=False, description="Of fixed, in physical units; 0 where nothing is said."
    )
    channels: Literal["own", "all"] | Annotated[list[str], Field(min_length=1, max_length=64)] = Field(
        default="own",
        description="own: the channel that the window is of; a list: those of these names, in this order; all: every channel of this"
        " kind that the stream has, in its order, which must be as many as channel_count.",
    )
    channel_count: int | None = Field(default=None, ge=1, le=64, description="Of all.")
    layout: Literal["samples_first", "channels_first"] = Field(
        default="samples_first",
        description="Of several channels. samples_first: a sample of each, then the next (shape ..., samples, channels);"
        " channels_first: one channel after the other.",
    )

    @model_validator(mode="after")
    def _anchor_inside(self) -> SignalInput:
        if self.before > self.samples:
            raise ValueError(f"before ({self.before}) is larger than the window ({self.samples} samples)")
        if self.normalisation != "fixed" and not self.scale is self.offset is None:
            raise ValueError(f"scale and offset are of the normalisation fixed, not of {self.normalisation}")
        if self.scale == 0:
            raise ValueError("a scale of 0 leaves nothing")
        if (self.channels == "all") != (self.channel_count is not None):
            raise ValueError("channel_count goes with channels = all, and with that alone")
        if isinstance(self.channels, list) and len(set(self.channels)) != len(self.channels):
            raise ValueError("channels repeat")
        if self.channels != "own" and self.needs_usual:
            raise ValueError("the usual beat is that of the window's own channel")
        if self.size > LARGEST_INPUT:
            raise ValueError(f"an input of {self.size:,} numbers, {LARGEST_INPUT:,} at the most")
        return self

    @property
    def size(self) -> int:
        """Numbers that it holds."""
        many = len(self.channels) if isinstance(self.channels, list) else self.channel_count or 1
        return self.samples * many

    @property
    def needs_usual(self) -> bool:
        return "usual" in (self.source, self.normalisation)


class FeatureInput(Input):
    """Causal context of the beat, as numbers (edge_agent.signal.rr, edge_agent.signal.usual_beat); 0 where the history is
    too short."""

    kind: Literal["features"]
    features: list[FeatureName] = Field(min_length=1, max_length=256)

    @property
    def size(self) -> int:
        return len(self.features)

    @property
    def needs_usual(self) -> bool:
        return any(name in SHAPE_FEATURES for name in self.features)


class RrInput(Input):
    """The last RR intervals, oldest first."""

    kind: Literal["rr"]
    intervals: int = Field(gt=1, le=1024)
    normalisation: Literal["seconds", "milliseconds", "log_median", "ratio_median", "zscore", "minmax"] = Field(
        description="seconds, milliseconds: as they are; ratio_median: over the sequence's median; log_median: the natural logarithm of"
        " that; zscore: (x-mean)/std; minmax: 0 to 1."
    )

    @property
    def size(self) -> int:
        return self.intervals


AlarmSign = Literal[
    "texture_run",
    "beat_run",
    "similarity",
    "rate_ratio_log",
    "quality",
    "peaked_log",
    "pulse_irregular_log",
    "systolic_fall",
]
"""What speaks for or against an alarm (edge_agent.alarms.opinion)."""


class EvidenceInput(Input):
    """What the last 16 s show against the two minutes before, as numbers."""

    kind: Literal["evidence"]
    numbers: list[AlarmSign] = Field(min_length=1, max_length=64)

    @property
    def size(self) -> int:
        return len(self.numbers)

    @property
    def needs_usual(self) -> bool:
        return False


ModelInput = Annotated[SignalInput | FeatureInput | RrInput | EvidenceInput, Field(discriminator="kind")]


class BeatAnchor(Strict):
    """One window at every beat."""

    kind: Literal["beat"]


class SlideAnchor(Strict):
    """A window every stride_s seconds of the stream, ending there."""

    kind: Literal["slide"]
    stride_s: float = Field(ge=LEAST_STRIDE_S, le=3600)


class RrAnchor(Strict):
    """A window at every stride-th beat, once enough intervals have been seen."""

    kind: Literal["rr"]
    stride: int = Field(default=1, gt=0, le=1024)


class AlarmAnchor(Strict):
    """Asked when a second opinion on an alarm is asked for, and only then."""

    kind: Literal["alarm"]
    alarm: Literal["ventricular_tachycardia"]


Anchor = Annotated[BeatAnchor | SlideAnchor | RrAnchor | AlarmAnchor, Field(discriminator="kind")]


class Output(Strict):
    """How the output tensor becomes a label."""

    holds: Literal["scores", "score", "index"] = Field(
        default="scores",
        description="scores: one for each label; score: one number, of the second of two labels (the first has the rest to 1); index:"
        " the number of the label, as ARG_MAX gives it (int32 or int64).",
    )
    scores: Literal["softmax", "sigmoid", "none"] = Field(
        description="softmax or sigmoid: applied here to logits; none: the tensor holds scores already."
    )
    thresholds: dict[str, Annotated[float, Field(strict=True)]] = Field(
        default_factory=dict,
        description="Least score for a label to be said; of softmax and sigmoid between 0 and 1.",
    )
    abstain_below: float = Field(default=0.0, ge=0, le=1, description="Best score under which nothing is said.")
    abstain_margin: float = Field(
        default=0.0, ge=0, le=1, description="Nothing is said where the best score leads the next by less than this."
    )

    @model_validator(mode="after")
    def _fits(self) -> Output:
        if self.holds == "index" and (
            self.scores != "none" or self.thresholds or self.abstain_below or self.abstain_margin
        ):
            raise ValueError("a label's number has no scores: no softmax or sigmoid, no thresholds, no abstaining")
        beyond = [label for label, least in self.thresholds.items() if not 0 <= least <= 1]
        if beyond and self.scores != "none":
            raise ValueError(f"a score of {self.scores} is between 0 and 1: the threshold of {beyond[0]!r} is not")
        if self.holds == "score" and self.scores == "softmax":
            raise ValueError("the softmax of one number is always 1: sigmoid, or none, is wanted")
        return self


class Golden(Strict):
    """Inputs and outputs of the model as it was packed: what every engine must reproduce before it is believed."""

    file: str = "golden.npz"
    tolerance: float = Field(gt=0, description="Largest difference of any output; int8 kernels differ by a few LSB.")


class Training(Strict):
    """Where the model comes from; for people and for the info message."""

    data: list[str] = Field(min_length=1)
    licence: str
    protocol: str
    command: str = ""


class Manifest(Strict):
    schema_: Literal["edge-agent/model/1"] = Field(alias="schema")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    version: str = Field(pattern=VERSION)
    task: Task
    labels: list[Annotated[str, Field(min_length=1, max_length=100)]] = Field(min_length=2, max_length=1000)
    engine: Literal["any", "cpu"] = Field(
        default="any",
        description="cpu: made for the CPU alone (a float model, one of a few operations): never asked of an Edge TPU, and no fault in"
        " the eyes of edge-agent models check.",
    )
    optional: bool = Field(default=False, description="Runs only where a stream names it: a model kept for comparison.")
    channels: Literal["each", "first"] | Annotated[list[str], Field(min_length=1, max_length=64)] = Field(
        default="each",
        description="On which channels of its kind the model runs: each, each by itself; the first; or those of these names.",
    )
    quantisation: Literal["int8", "uint8", "float32"] | None = Field(
        default=None,
        description="What the file computes in. Where it is said, a file that computes in anything else is refused.",
    )
    anchor: Anchor
    inputs: list[ModelInput] = Field(min_length=1, max_length=8)
    output: Output
    golden: Golden
    files: dict[str, str] = Field(max_length=64, description="File name to lowercase hex SHA-256.")
    training: Training
    minimum_agent_version: str = Field(pattern=VERSION)

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: list[str]) -> list[str]:
        if len(set(labels)) != len(labels):
            raise ValueError("labels repeat")
        return labels

    @field_validator("files")
    @classmethod
    def _plain_names(cls, files: dict[str, str]) -> dict[str, str]:
        for name, digest in files.items():
            if any(char in name for char in "/\\\0") or name.startswith(".") or not name.strip() or len(name) > 100:
                raise ValueError(f"file name {name!r} is not a plain name inside the artifact")
            if name.casefold() in ("manifest.json", "manifest.sig"):
                raise ValueError(f"{name!r} is not one of the files: it speaks for them")
            if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
                raise ValueError(f"digest of {name!r} is not 64 lowercase hex digits")
        return files

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        if "model.tflite" not in self.files:
            raise ValueError("files lists no model.tflite")
        if self.golden.file not in self.files:
            raise ValueError(f"files does not list the golden vectors ({self.golden.file})")
        if self.engine == "cpu" and COMPILED_FILE in self.files:
            raise ValueError(f"engine = cpu, and there is a {COMPILED_FILE}")
        unknown = set(self.output.thresholds) - set(self.labels)
        if unknown:
            raise ValueError(f"thresholds for labels that do not exist: {', '.join(sorted(unknown))}")
        if self.output.holds == "score" and len(self.labels) != 2:
            raise ValueError(f"one score is that of the second of two labels; there are {len(self.labels)}")
        if len(set(self.channels)) != len(self.channels) and isinstance(self.channels, list):
            raise ValueError("channels repeat")
        names = [part.name for part in self.inputs]
        if len(set(names)) != len(names) or "output" in names:
            raise ValueError("inputs must have names of their own, and none may be 'output'")
        kinds = {part.kind for part in self.inputs}
        if self.anchor.kind == "slide" and kinds != {"signal"}:
            raise ValueError("a sliding window takes signal inputs only")
        if self.anchor.kind == "rr" and "signal" in kinds:
            raise ValueError("an rr window takes rr and feature inputs only")
        if (self.anchor.kind == "alarm") != (kinds == {"evidence"}) or ("evidence" in kinds and len(kinds) > 1):
            raise ValueError("an opinion on an alarm takes evidence inputs only, and nothing else takes them")
        if self.anchor.kind != "beat" and any(
            part.needs_usual for part in self.inputs if isinstance(part, SignalInput | FeatureInput)
        ):
            raise ValueError("the usual beat is known in windows at beats only")
        signals = {part.signal for part in self.inputs if isinstance(part, SignalInput)}
        if len(signals) > 1:
            raise ValueError(f"inputs from several signals ({', '.join(sorted(signals))}) in one window")
        if self.anchor.kind in ("beat", "rr") and signals - {"ecg"}:
            raise ValueError("windows at beats come from the ecg")
        return self

    @property
    def signal(self) -> SignalKind:
        """The kind of channel this model listens to."""
        for part in self.inputs:
            if isinstance(part, SignalInput):
                return part.signal
        return "ecg"

    @property
    def output_size(self) -> int:
        """Numbers that the output holds."""
        return len(self.labels) if self.output.holds == "scores" else 1
