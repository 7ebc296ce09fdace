"""Trials, and which version of a model a running agent takes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent import config
from edge_agent.config import InferenceConfig
from edge_agent.errors import ArtifactError, EngineError
from edge_agent.inference.artifact import Artifact, load, open_engine
from edge_agent.inference.feeding import feeding_of
from edge_agent.inference.installed import durable, signature
from edge_agent.inference.installed.archive import opened
from edge_agent.inference.installed.catalogue import Catalogue, open_first
from edge_agent.inference.installed.live import LiveModels
from edge_agent.inference.installed.trial import Limits
from edge_agent.inference.judge import Judge
from edge_agent.inference.loaded import shipped_models
from edge_agent.journey import Samples, Window
from tests.inference.tiny import GOLDEN, STRANGER, manifest, packed, write

LIMITS = Limits(windows=200, seconds=60, p99_ms=10, starts=2)


# -- a trial by itself -----------------------------------------------------------------------------------------------


# -- what an agent takes ---------------------------------------------------------------------------------------------


class Failing:
    """An engine that reproduces its golden vectors and then falls over."""

    backend = "cpu/failing"

    def __init__(self, answers: int) -> None:
        self.answers = answers

    def invoke(self, inputs: tuple[Samples, ...]) -> Samples:
        self.answers -= 1
        if self.answers < 0:
            raise EngineError("the engine fell over")
        return np.asarray(np.concatenate(inputs), np.float32)


class Rig:
    """A folder of models and a store over it."""

    def __init__(self, tmp_path: Path, **settings: Any) -> None:
        self.tmp_path = tmp_path
        self.under = tmp_path / "under"
        self.under.mkdir()
        self.settings = InferenceConfig(
            **{"models_dir": self.under, "store": tmp_path / "store", "trial_windows": 3, **settings}
        )
        self.catalogue = Catalogue.of(self.settings)
        self.store = self.catalogue.store

    def folder(self, version: str, **options: Any) -> Path:
        about = manifest(**{"version": version, **options.pop("about", {})})
        return write(self.tmp_path / "made" / version, about, **options)

    def install(self, version: str, *, activate: bool = True, prove: Any = load, **options: Any) -> None:
        with opened(self.folder(version, **options)) as bundle:
            self.store.install(bundle, self.catalogue.policy, prove=prove, underneath=self.catalogue.underneath)
        if activate:
            self.store.activate("tiny", version)

    def live(self, names: list[str] | None = None, **options: Any) -> LiveModels:
        return LiveModels(self.settings, [names], **options)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    write(rig.under)
    return rig


def window(feeding: str = "") -> Window:
    inputs = (np.array([0.5, -1.0], np.float32), np.array([0.8, 0.75, 0.85], np.float32))
    return Window(model="tiny", channel="II", sample=100, known=150, inputs=inputs, feeding=feeding)


def runs(live: LiveModels) -> tuple[str, str]:
    (info,) = live.info()
    return info.version, info.state


def test_what_is_installed_and_active_covers_what_lies_underneath(rig: Rig) -> None:
    assert runs(rig.live()) == ("1.0.0", "active")
    rig.install("1.1.0", activate=False)
    assert runs(rig.live()) == ("1.0.0", "active")
    rig.store.activate("tiny", "1.1.0")
    assert open_first(rig.catalogue, ["tiny"])["tiny"].artifact.manifest.version == "1.1.0"
    assert rig.store.state("tiny").trial.starts == 0  # type: ignore[union-attr]  # looking is no start
    assert runs(rig.live()) == ("1.1.0", "trial")


def test_an_installed_model_of_another_name_is_one_more(rig: Rig) -> None:
    with opened(write(rig.tmp_path / "other", manifest(name="other", version="2.0.0"))) as bundle:
        rig.store.install(bundle, signature.ANY, prove=load, underneath=rig.catalogue.underneath)
    assert rig.catalogue.names() == ["tiny"]
    with pytest.raises(ArtifactError, match=r"none of them active[\s\S]*edge-agent models activate other 2\.0\.0"):
        rig.live(["other"])
    rig.store.activate("other", "2.0.0")
    assert rig.catalogue.names() == rig.catalogue.default_names() == ["other", "tiny"]
    assert rig.live().names == ["other", "tiny"]
    assert rig.live(["tiny"]).names == ["tiny"]
    with pytest.raises(ArtifactError, match=r"no model named 'third'[\s\S]*there are: other, tiny"):
        rig.live(["third"])


def test_a_trial_is_passed_while_it_runs(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rig.install("1.1.0")
    live = rig.live()
    assert rig.store.state("tiny").trial.starts == 1  # type: ignore[union-attr]
    for _ in range(3):
        assert not live.look_at_trials()
        assert live.judge.ask(window()).version == "1.1.0"
    assert live.look_at_trials()
    assert runs(live) == ("1.1.0", "active")
    assert live.info()[0].note is not None
    assert "passed its trial" in str(live.info()[0].note)
    state = rig.store.state("tiny")
    assert (state.active, state.trial, state.before) == ("1.1.0", None, (None,))
    assert not live.look_at_trials()
    assert "tiny: 1.1.0 has passed its trial" in caplog.text


def test_an_engine_that_errs_is_rolled_back(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.install("1.1.0")

    def open_with(artifact: Artifact) -> Any:
        return Failing(1) if artifact.manifest.version == "1.1.0" else open_engine(artifact)

    live = rig.live(open_with=open_with)
    assert live.judge.ask(window()).label is not None
    failed = live.judge.ask(window())
    assert failed.label is None
    assert failed.reason == "engine: the engine fell over"
    assert live.look_at_trials()
    assert runs(live) == ("1.0.0", "active")
    assert live.judge.ask(window()).version == "1.0.0"
    assert "1.1.0 failed its trial and was rolled back: engine: the engine fell over" in str(live.info()[0].note)
    state = rig.store.state("tiny")
    assert (state.active, state.trial) == (None, None)
    assert state.failed == {"1.1.0": "engine: the engine fell over"}
    assert "failed its trial" in caplog.text


def test_an_engine_that_is_too_slow_is_rolled_back(tmp_path: Path) -> None:
    rig = Rig(tmp_path, trial_p99_ms=0.0001)  # nothing is that fast
    write(rig.under)
    rig.install("1.1.0")
    live = rig.live()
    live.judge.ask(window())
    assert live.look_at_trials()
    assert runs(live) == ("1.0.0", "active")
    assert "took longer than 0.0001 ms" in rig.store.state("tiny").failed["1.1.0"]


def test_golden_vectors_that_fail_at_the_start_roll_back(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    golden = {name: array.copy() for name, array in GOLDEN.items()}
    golden["output"][0, 0] += 1  # right where it was proved, wrong here: another runtime, another processor
    rig.install("1.1.0", golden=packed(golden))
    live = rig.live()
    assert runs(live) == ("1.0.0", "active")
    assert "golden outputs differ" in str(live.info()[0].note)
    assert "golden outputs differ" in rig.store.state("tiny").failed["1.1.0"]
    assert "tiny: 1.1.0 is rolled back" in caplog.text


def test_an_agent_that_dies_within_the_trial_goes_back_by_itself(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Each of these is a start without a good end: a crash, a power cut."""
    rig.install("1.1.0")
    for starts in (1, 2):
        assert runs(rig.live()) == ("1.1.0", "trial")
        assert rig.store.state("tiny").trial.starts == starts  # type: ignore[union-attr]
    assert runs(rig.live()) == ("1.0.0", "active")
    assert "did not end well 2 times" in caplog.text
    assert "did not end well 2 times" in rig.store.state("tiny").failed["1.1.0"]
    assert runs(rig.live()) == ("1.0.0", "active")


def test_an_agent_that_ends_well_is_no_mark_against_the_model(rig: Rig) -> None:
    rig.install("1.1.0")
    for _ in range(5):
        live = rig.live()
        assert runs(live) == ("1.1.0", "trial")
        live.pause()
        assert rig.store.state("tiny").trial.starts == 0  # type: ignore[union-attr]


def test_a_start_that_another_model_ends_is_no_mark_against_it(rig: Rig) -> None:
    rig.install("1.1.0")
    (rig.under / "zebra").mkdir()
    (rig.under / "zebra" / "manifest.json").write_text("{}", encoding="utf-8")
    for _ in range(4):
        with pytest.raises(ArtifactError, match="zebra"):
            rig.live()
        assert rig.store.state("tiny").trial.starts == 0  # type: ignore[union-attr]


def test_what_is_published_of_the_configuration_holds_no_path(tmp_path: Path) -> None:
    (tmp_path / "maker.pub").write_text(STRANGER, encoding="utf-8")
    path = tmp_path / "agent.toml"
    path.write_text(
        '[inference]\nstore = "store"\ntrusted_keys = ["maker.pub", "' + "a" * 64 + '"]\n'
        '[[stream]]\nname = "bed"\n[stream.source]\ntype = "simulated"\n',
        encoding="utf-8",
    )
    loaded = config.load(path)
    assert config.model_store(loaded.inference) == tmp_path / "store"
    assert loaded.inference.trusted_keys == [str(tmp_path / "maker.pub"), "a" * 64]
    shown = loaded.public()["inference"]
    assert (shown["store"], shown["trusted_keys"]) == ("(set)", ["(set)", "a" * 64])


def test_a_first_model_that_fails_leaves_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(tmp_path)
    write(rig.under, manifest())
    (rig.under / "tiny").rename(rig.under / "base")
    about = (rig.under / "base" / "manifest.json").read_text(encoding="utf-8").replace('"tiny"', '"base"')
    (rig.under / "base" / "manifest.json").write_text(about, encoding="utf-8")
    rig.install("1.1.0")
    live = rig.live(open_with=lambda one: Failing(0) if one.name == "tiny" else open_engine(one))
    assert live.names == ["base", "tiny"]
    live.judge.ask(window())
    assert live.look_at_trials()
    assert live.names == ["base"]
    assert rig.live().names == ["base"]
    with pytest.raises(ArtifactError, match=r"model 'tiny': 1\.1\.0 installed in .*, none of them active"):
        rig.live(["tiny"])
    assert "model tiny: does not run" in caplog.text


# -- reloading -------------------------------------------------------------------------------------------------------


def test_a_reload_takes_up_what_was_activated_and_keeps_the_rest(rig: Rig) -> None:
    with opened(write(rig.tmp_path / "other", manifest(name="other", version="2.0.0"))) as bundle:
        rig.store.install(bundle, signature.ANY, prove=load, underneath=rig.catalogue.underneath)
    rig.store.activate("other", "2.0.0", on_trial=False)
    live = rig.live()
    before = live.judge.models
    assert live.reload(rig.settings) == []
    assert live.judge.models is before
    rig.install("1.1.0")
    assert live.reload(rig.settings) == ["model tiny 1.1.0 (was 1.0.0), on trial"]
    assert live.judge.models["other"] is before["other"]
    assert rig.store.state("tiny").trial.starts == 1  # type: ignore[union-attr]
    assert live.reload(rig.settings) == []
    assert rig.store.state("tiny").trial.starts == 1  # type: ignore[union-attr]
    rig.store.rollback("tiny")
    assert live.reload(rig.settings) == ["model tiny 1.0.0 (was 1.1.0)"]
    rig.store.remove("other")
    assert live.reload(rig.settings) == ["model other gone"]
    assert live.names == ["tiny"]


@pytest.mark.parametrize("damage", ["model.tflite", "manifest.json", "golden.npz", "everything"])
def test_a_bad_model_at_a_reload_changes_nothing(damage: str, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.install("1.1.0")
    rig.store.passed("tiny", "1.1.0")
    live = rig.live()
    running = live.judge.models["tiny"]
    rig.install("1.2.0")
    place = rig.store.place("tiny", "1.2.0")
    for path in [place / damage] if damage != "everything" else list(place.iterdir()):
        path.write_bytes(b"damaged")
    assert live.reload(rig.settings) == []
    assert live.judge.models["tiny"] is running
    lines = [record.message for record in caplog.records if record.levelno >= logging.ERROR]
    assert any(str(place) in line and "refused" in line for line in lines), lines
    assert str(place) in str(live.info()[0].note)
    assert live.judge.ask(window()).version == "1.1.0"
    assert rig.store.state("tiny").active == "1.1.0"


def test_the_active_one_is_damaged_while_it_runs(rig: Rig) -> None:
    """What runs is in memory; it goes on, and the next start takes the one before it."""
    rig.install("1.1.0")
    rig.store.passed("tiny", "1.1.0")
    live = rig.live()
    (rig.store.place("tiny", "1.1.0") / "model.tflite").write_bytes(b"damaged")
    assert live.reload(rig.settings) == []
    assert runs(live) == ("1.1.0", "active")
    again = rig.live()
    assert runs(again) == ("1.0.0", "active")
    assert "SHA-256" in str(again.info()[0].note)
    assert rig.store.state("tiny").active == "1.1.0"  # not on trial: it may be mended


def test_a_store_that_is_none_leaves_what_lies_underneath(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.store.folder.write_text("a file", encoding="utf-8")
    assert runs(rig.live()) == ("1.0.0", "active")
    assert "the store cannot be read" in caplog.text


def test_a_store_that_cannot_be_written_runs_no_trial(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash could not be counted: it might crash for ever."""
    rig.install("1.1.0")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "replace_file", full)
    live = rig.live()
    assert runs(live) == ("1.0.0", "active")
    assert "the store cannot be written" in str(live.info()[0].note)


def test_signatures_are_verified_at_every_load(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    key = tmp_path / "edge.pem"
    public = signature.public_key(str(signature.keygen(key)))
    rig = Rig(tmp_path, trusted_keys=[public.raw.hex()], require_signature=True)
    write(rig.under)
    with pytest.raises(ArtifactError, match="is not signed"):
        rig.live()  # models_dir is no more trusted than the store
    raw = (rig.under / "tiny" / "manifest.json").read_bytes()
    (rig.under / "tiny" / "manifest.sig").write_bytes(signature.sign(raw, key))
    live = rig.live()
    assert live.info()[0].signer == public.id
    with pytest.raises(ArtifactError, match="is not signed"):
        rig.install("1.1.0")
    assert rig.store.names() == []
    (rig.under / "tiny" / "manifest.sig").write_bytes(bytes(64))  # changed on the disk, after it was installed
    assert live.reload(rig.settings) == []
    with pytest.raises(ArtifactError, match="no Ed25519 signature"):
        rig.live()


def test_the_shipped_models_are_part_of_the_agent(tmp_path: Path) -> None:
    settings = InferenceConfig(store=tmp_path / "store", trusted_keys=[STRANGER], require_signature=True)
    live = LiveModels(settings, [["ecg-af-rr"]])
    assert live.names == ["ecg-af-rr"]
    assert live.info()[0].signer is None
    assert shipped_models().is_dir()


def test_keys_are_taken_up_by_a_reload(rig: Rig) -> None:
    live = rig.live()
    fresh = rig.settings.model_copy(update={"trusted_keys": [STRANGER], "require_signature": True})
    assert live.reload(fresh) == ["inference.trusted_keys", "inference.require_signature"]
    assert runs(live) == ("1.0.0", "active")  # it cannot be replaced by what is not signed, and goes on
    assert "is not signed" in str(live.info()[0].note)


# -- swapping --------------------------------------------------------------------------------------------------------


def test_windows_that_wait_are_judged_by_the_model_they_were_cut_for(rig: Rig) -> None:
    """The new version wants other inputs; what waits in the queue has the old ones."""
    live = rig.live()
    old = feeding_of(live.judge.models["tiny"].artifact.manifest)
    inputs = [dict(part) for part in manifest()["inputs"]]
    inputs[1]["normalisation"] = "log_median"
    rig.install("1.1.0", about={"inputs": inputs})
    live.reload(rig.settings)
    new = feeding_of(live.judge.models["tiny"].artifact.manifest)
    assert old != new
    assert [live.judge.ask(window(one)).version for one in (old, new, "")] == ["1.0.0", "1.1.0", "1.1.0"]
    rig.store.rollback("tiny")
    live.reload(rig.settings)
    assert [live.judge.ask(window(one)).version for one in (old, new)] == ["1.0.0", "1.1.0"]


def test_a_swap_is_seen_between_two_windows(rig: Rig) -> None:
    made = open_first(rig.catalogue, ["tiny"])
    judge = Judge(made)
    assert judge.ask(window()).version == "1.0.0"
    rig.install("1.1.0")
    judge.swap(open_first(rig.catalogue, ["tiny"]))
    assert judge.ask(window()).version == "1.1.0"
    assert not judge._retired  # fed alike, it takes the windows that wait as well
