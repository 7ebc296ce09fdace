"""``manifest.json``: all that the pipeline must know to feed a model and to read its answer (``edge-agent/model/1``)."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from edge_agent.signal.usual_beat import SHAPE_FEATURES as SHAPE_FEATURES
from edge_agent.signal.usual_beat import ShapeFeature

SCHEMA = "edge-agent/model/1"
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
FEATURE_NAMES = RR_FEATURES + SHAPE_FEATURES


class Strict(BaseModel):
    """Unknown keys are refused: a manifest that says more than we understand must not be half understood."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SignalInput(Strict):
    """A stretch of one signal around (or before) the anchor, resampled and normalised."""

    kind: Literal["signal"]
    name: str
    signal: SignalKind
    rate_hz: float = Field(gt=0, le=2000)
    samples: int = Field(gt=0, le=100_000)
    before: int = Field(ge=0, description="Samples of the window that lie before the anchor, at rate_hz.")
    source: Literal["signal", "usual"] = Field(
        default="signal",
        description="signal: the channel itself; usual: the mean of the patient's last usual beats there, 0 while there is none.",
    )
    normalisation: Literal["none", "zscore", "minmax", "centre", "usual"] = Field(
        description="none: physical units; centre: minus the median; zscore: (x-mean)/std; minmax: 0 to 1; usual: (x-mean)/std"
        " of the usual beat there (its own while there is none), so that this beat's size against it is kept."
    )

    @model_validator(mode="after")
    def _anchor_inside(self) -> SignalInput:
        if self.before > self.samples:
            raise ValueError(f"before ({self.before}) is larger than the window ({self.samples} samples)")
        return self

    @property
    def needs_usual(self) -> bool:
        return "usual" in (self.source, self.normalisation)


class FeatureInput(Strict):
    """Causal context of the beat, as numbers (edge_agent.signal.rr, edge_agent.signal.usual_beat); 0 where the history is
    too short."""

    kind: Literal["features"]
    name: str
    features: list[FeatureName] = Field(min_length=1)

    @property
    def needs_usual(self) -> bool:
        return any(name in SHAPE_FEATURES for name in self.features)


class RrInput(Strict):
    """The last RR intervals, oldest first."""

    kind: Literal["rr"]
    name: str
    intervals: int = Field(gt=1, le=1024)
    normalisation: Literal["seconds", "log_median"] = Field(
        description="seconds: as they are; log_median: natural logarithm of the ratio to the sequence's median."
    )


ModelInput = Annotated[SignalInput | FeatureInput | RrInput, Field(discriminator="kind")]


class BeatAnchor(Strict):
    """One window at every beat."""

    kind: Literal["beat"]


class SlideAnchor(Strict):
    """A window every stride_s seconds of the stream, ending there."""

    kind: Literal["slide"]
    stride_s: float = Field(gt=0, le=3600)


class RrAnchor(Strict):
    """A window at every stride-th beat, once enough intervals have been seen."""

    kind: Literal["rr"]
    stride: int = Field(default=1, gt=0, le=1024)


Anchor = Annotated[BeatAnchor | SlideAnchor | RrAnchor, Field(discriminator="kind")]


class Output(Strict):
    """How the output tensor becomes a label."""

    scores: Literal["softmax", "sigmoid", "none"] = Field(
        description="softmax or sigmoid: applied here to logits; none: the tensor holds scores already."
    )
    thresholds: dict[str, float] = Field(default_factory=dict, description="Least score for a label to be said.")
    abstain_below: float = Field(default=0.0, ge=0, le=1, description="Best score under which nothing is said.")


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
    task: Literal["ecg-beat", "ecg-rhythm", "abp-segment", "other"]
    labels: list[str] = Field(min_length=2)
    optional: bool = Field(default=False, description="Runs only where a stream names it: a model kept for comparison.")
    anchor: Anchor
    inputs: list[ModelInput] = Field(min_length=1, max_length=8)
    output: Output
    golden: Golden
    files: dict[str, str] = Field(description="File name to lowercase hex SHA-256.")
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
            if any(char in name for char in "/\\\0") or name.startswith(".") or not name.strip():
                raise ValueError(f"file name {name!r} is not a plain name inside the artifact")
            if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
                raise ValueError(f"digest of {name!r} is not 64 lowercase hex digits")
        return files

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        if "model.tflite" not in self.files:
            raise ValueError("files lists no model.tflite")
        if self.golden.file not in self.files:
            raise ValueError(f"files does not list the golden vectors ({self.golden.file})")
        unknown = set(self.output.thresholds) - set(self.labels)
        if unknown:
            raise ValueError(f"thresholds for labels that do not exist: {', '.join(sorted(unknown))}")
        names = [part.name for part in self.inputs]
        if len(set(names)) != len(names) or "output" in names:
            raise ValueError("inputs must have names of their own, and none may be 'output'")
        kinds = {part.kind for part in self.inputs}
        if self.anchor.kind == "slide" and kinds != {"signal"}:
            raise ValueError("a sliding window takes signal inputs only")
        if self.anchor.kind == "rr" and "signal" in kinds:
            raise ValueError("an rr window takes rr and feature inputs only")
        if self.anchor.kind != "beat" and any(
            part.needs_usual for part in self.inputs if not isinstance(part, RrInput)
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
