"""``edge-agent models``: what it prints, its exit status, and what it leaves."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge_agent.cli import main
from edge_agent.commands import models_shown
from edge_agent.config import load as load_config
from edge_agent.errors import ConfigError
from edge_agent.inference.installed import signature
from edge_agent.inference.loaded import model_names, shipped_models
from tests.inference.tiny import GOLDEN, manifest, packed, write


@dataclass(frozen=True)
class Said:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Said]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(models_shown, "SERVICE_CONFIG", tmp_path / "no such file")

    def go(*arguments: str | Path) -> Said:
        try:
            status = main(["models", *map(str, arguments)])
        except SystemExit as error:
            status = int(error.code or 0)
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return Said(status, out, err)

    return go


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., Path]:
    def make(version: str = "1.0.0", **options: Any) -> Path:
        return write(tmp_path / "made" / version, manifest(version=version), **options)

    return make


def test_the_shipped_models_are_listed(models: Run, tmp_path: Path) -> None:
    said = models("list")
    assert said.status == 0
    for name in model_names(shipped_models()):
        assert f"\n{name} " in said.out
    assert said.out.rstrip().endswith(f"store: {tmp_path}/state/edge-agent/models (empty)")
    rows = models("list", "--json").json["models"]
    assert {row["state"] for row in rows} == {"active"}
    assert {row["from"] for row in rows} == {"shipped"}
    assert not (tmp_path / "state").exists()  # looking makes nothing


def test_the_whole_way(models: Run, tiny: Callable[..., Path]) -> None:
    said = models("install", tiny())
    assert said.status == 0, said.err
    assert "tiny 1.0.0: installed" in said.out
    assert "it does not run yet: edge-agent models activate tiny 1.0.0" in said.out
    said = models("activate", "tiny")
    assert "tiny 1.0.0: active, on trial for 500 windows" in said.out
    assert "systemctl reload edge-agent" in said.out
    (row,) = [row for row in models("list", "--json").json["models"] if row["name"] == "tiny"]
    assert (row["state"], row["from"], row["signed"]) == ("trial", "store", False)
    said = models("install", tiny("1.1.0"), "--activate", "--json")
    assert said.json == {"name": "tiny", "active": "1.1.0", "trial": True}
    said = models("show", "tiny")
    assert "tiny 1.1.0" in said.out
    assert models("show", "tiny", "1.0.0", "--json").json["manifest"]["version"] == "1.0.0"
    assert models("rollback", "tiny", "--json").json == {"name": "tiny", "active": None}  # 1.0.0 never passed its trial
    assert models("activate", "tiny", "1.1.0", "--no-trial").status == 0
    said = models("remove", "tiny", "1.0.0")
    assert "removed: 1.0.0" in said.out
    models("install", tiny("1.2.0"))
    said = models("verify", "tiny")
    assert [line.split(":")[0] for line in said.out.splitlines()] == ["tiny 1.1.0", "tiny 1.2.0"]
    assert said.out.startswith("tiny 1.1.0: good: 2 files; golden vectors within ")
    assert "removed: 1.1.0, 1.2.0" in models("remove", "tiny").out
    assert "tiny" not in models("list").out
    assert "there are: none" in models("remove", "nothing").err  # not what was removed itself


def test_what_is_refused_is_one_line_and_status_1(models: Run, tiny: Callable[..., Path], tmp_path: Path) -> None:
    models("install", tiny("1.1.0"), "--activate")
    golden = {name: array.copy() for name, array in GOLDEN.items()}
    golden["output"][0, 0] += 1
    wrong = tiny("1.2.0", golden=packed(golden))
    damaged = tiny("1.3.0")
    (damaged / "model.tflite").write_bytes(b"x")
    (tmp_path / "junk.edgemodel").write_bytes(b"junk")
    for arguments, word in (
        (("install", tiny("1.0.0")), "is older than 1.1.0"),
        (("install", wrong), "golden outputs differ"),
        (("install", damaged), "SHA-256"),
        (("install", "junk.edgemodel"), "junk.edgemodel: not an archive"),
        (("install", "nowhere"), "no such model folder or archive"),
        (("install", "http://localhost/x"), "HTTPS alone"),
        (("activate", "tiny", "9.9.9"), "is not installed"),
        (("activate", "nothing"), "no model named 'nothing'"),
        (("show", "nothing"), "no model named 'nothing'"),
        (("show", "tiny", "9.9.9"), "no version 9.9.9"),
        (("rollback", "nothing"), "no model named 'nothing'"),
        (("verify", wrong), "golden outputs differ"),
        (("verify", damaged), "SHA-256"),
        (("sign", damaged, "--key", "x"), "SHA-256"),
        (("pack", damaged), "SHA-256"),
        (("list", "--config", "nowhere.toml"), "cannot be read"),
    ):
        said = models(*arguments)
        assert said.status == 1, arguments
        lines = said.err.strip().splitlines()
        assert lines[0].startswith("edge-agent: ")
        assert any(word in line for line in lines), (arguments, said.err)
        assert len(lines) <= 2
    assert models("show", "tiny", "--json").json["manifest"]["version"] == "1.1.0"
    assert models("install", tiny("1.0.0"), "--allow-downgrade").status == 0
    assert "is older than 1.1.0" in models("activate", "tiny", "1.0.0").err
    assert models("activate", "tiny", "1.0.0", "--allow-downgrade").status == 0


def test_what_was_damaged_since_is_not_activated(models: Run, tiny: Callable[..., Path], tmp_path: Path) -> None:
    models("install", tiny(), "--store", tmp_path / "store")
    (tmp_path / "store" / "tiny" / "1.0.0" / "model.tflite").write_bytes(b"x")
    said = models("activate", "tiny", "--store", tmp_path / "store")
    assert said.status == 1
    assert "SHA-256" in said.err
    assert "nothing has changed" in said.err
    assert json.loads((tmp_path / "store" / "tiny" / "state.json").read_bytes())["active"] is None


def test_archives(models: Run, tiny: Callable[..., Path], tmp_path: Path) -> None:
    said = models("pack", tiny())
    assert said.out.startswith("tiny-1.0.0.edgemodel: tiny 1.0.0, ")
    archive = tmp_path / "tiny-1.0.0.edgemodel"
    assert models("verify", archive).out.startswith(f"{archive}: tiny 1.0.0: good")
    assert "was wanted" in models("install", archive, "--sha256", "0" * 64).err
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert models("install", archive, "--sha256", digest).status == 0


def test_signed_models(models: Run, tiny: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    said = models("keygen", "keys/edge.pem")
    assert said.status == 0
    assert stat.S_IMODE((tmp_path / "keys" / "edge.pem").stat().st_mode) == 0o600
    key = signature.public_key(str(tmp_path / "keys" / "edge.pem.pub"))
    assert f'trusted_keys = ["{key.raw.hex()}"]' in said.out
    assert "never overwritten" in models("keygen", "keys/edge.pem").err
    assert models("keygen", ".").err.startswith("edge-agent: .: is a folder")
    config = tmp_path / "agent.toml"
    config.write_text(
        '[inference]\nstore = "store"\ntrusted_keys = ["keys/edge.pem.pub"]\nrequire_signature = true\n'
        '[[stream]]\nname = "bed"\n[stream.source]\ntype = "simulated"\n',
        encoding="utf-8",
    )
    folder = tiny()
    assert "is not signed" in models("install", folder, "--config", config).err
    assert models("sign", folder, "--key", "keys/edge.pem").status == 0
    said = models("install", folder, "--activate", "--config", config)
    assert said.status == 0, said.err
    said = models("verify", "tiny", "--config", config)
    assert f"signed by {key.id}" in said.out
    place = tmp_path / "store" / "tiny" / "1.0.0"
    (place / "manifest.sig").write_bytes(bytes(64))
    said = models("verify", "--config", config)
    assert said.status == 1
    assert f"{place}: manifest.sig is no Ed25519 signature" in said.err
    assert said.out.count(": good: ") == len(model_names(shipped_models()))  # the others are said, too


def test_keys_are_checked_with_the_configuration(models: Run, tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    for inference, word in (
        ('trusted_keys = ["nowhere.pub"]', "inference.trusted_keys[0]: nowhere.pub: no such file"),
        ("require_signature = true", "require_signature needs trusted_keys"),
        ('trusted_keys = ["agent.toml"]', "is no public key"),
        ("trial_windows = 0", "inference.trial_windows"),
    ):
        config.write_text(
            f'[inference]\n{inference}\n[[stream]]\nname = "bed"\n[stream.source]\ntype = "simulated"\n',
            encoding="utf-8",
        )
        said = models("list", "--config", config)
        assert said.status == 1
        assert word in said.err, said.err


def test_the_services_own_configuration_is_the_default(
    models: Run, tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever types the command means the agent that runs here."""
    config, state = tmp_path / "etc.toml", tmp_path / "var"
    config.write_text('[[stream]]\nname = "bed"\n[stream.source]\ntype = "simulated"\n', encoding="utf-8")
    state.mkdir()
    monkeypatch.setattr(models_shown, "SERVICE_CONFIG", config)
    monkeypatch.setattr(models_shown, "SERVICE_STATE", state)
    assert models("install", tiny()).status == 0
    assert (state / "models" / "tiny" / "1.0.0" / "model.tflite").is_file()


def test_nothing_is_imported_from_where_one_stands(models: Run, tiny: Callable[..., Path], tmp_path: Path) -> None:
    """The proof runs in a process of its own, and python -m would look here first."""
    (tmp_path / "edge_agent").mkdir()
    for path in (tmp_path / "edge_agent" / "__init__.py", tmp_path / "numpy.py", tmp_path / "json.py"):
        path.write_text(f"open({str(tmp_path / 'pwned')!r}, 'w')", encoding="utf-8")
    assert models("install", tiny()).status == 0
    assert not (tmp_path / "pwned").exists()


def row_of(models: Run, name: str, state: str | None = None, *more: str | Path) -> Any:
    rows = [row for row in models("list", "--json", *more).json["models"] if row["name"] == name]
    (row,) = [row for row in rows if state is None or row["state"] == state]
    return row


def test_a_damaged_state_takes_nobody_elses_row(models: Run, tiny: Callable[..., Path], tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert models("install", tiny("1.1.0"), "--activate", "--store", store).status == 0
    (store / "tiny" / "state.json").write_bytes(b"{")
    said = models("list", "--store", store)
    assert said.status == 0
    assert "its copy counts" in said.out
    assert row_of(models, "tiny", "trial", "--store", store)["version"] == "1.1.0"
    (store / "tiny" / "state.json.copy").write_bytes(b"{")
    said = models("list", "--store", store)
    assert said.status == 0
    assert all(f"\n{name} " in said.out for name in model_names(shipped_models()))
    remedy = f"edge-agent models activate tiny --store {store}"
    assert remedy in said.out
    assert models("show", "tiny", "1.1.0", "--store", store).status == 0
    assert models("verify", "tiny", "--store", store).status == 0
    assert "is older than 1.1.0" in models("install", tiny("1.0.0"), "--store", store).err
    assert models(*remedy.split()[2:]).status == 0  # as it says, word for word
    assert row_of(models, "tiny", "trial", "--store", store)["note"].startswith("since ")


def test_a_model_of_which_only_damage_is_left_is_listed(models: Run, tiny: Callable[..., Path], tmp_path: Path) -> None:
    store = tmp_path / "store"
    models("install", tiny("1.1.0"), "--store", store)
    models("remove", "tiny", "--store", store)
    for name in ("state.json", "state.json.copy"):
        (store / "tiny" / name).write_bytes(b"{")
    assert row_of(models, "tiny", "damaged", "--store", store)["note"].startswith("state.json is damaged")
    assert models("list", "--store", store).status == 0


def test_a_model_of_which_no_state_is_left_is_listed_and_not_overwritten(
    models: Run, tiny: Callable[..., Path], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    models("install", tiny("1.1.0"), "--activate", "--store", store)
    for name in ("state.json", "state.json.copy"):
        (store / "tiny" / name).unlink()
    row = row_of(models, "tiny", "installed", "--store", store)
    assert (row["version"], row["from"]) == ("1.1.0", "store")
    assert row["note"].startswith("state.json is missing; nothing is active until: edge-agent models activate tiny")
    said = models("install", tiny("1.0.0"), "--store", store)
    assert (said.status, "is older than 1.1.0" in said.err) == (1, True)
    assert (store / "tiny" / "1.1.0" / "model.tflite").is_file()


def test_several_are_verified_each_under_the_name_it_was_given(models: Run, tiny: Callable[..., Path]) -> None:
    folders = [tiny("1.0.0"), tiny("1.1.0")]
    said = models("verify", *folders)
    assert [line.split(": good")[0] for line in said.out.splitlines()] == [
        f"{folder}: tiny {version}" for folder, version in zip(folders, ("1.0.0", "1.1.0"), strict=True)
    ]


def test_a_version_whose_folder_is_gone_is_said(models: Run, tiny: Callable[..., Path], tmp_path: Path) -> None:
    under = tmp_path / "under"
    write(under, manifest(version="0.9.0"))
    config = tmp_path / "models.toml"
    config.write_text('[inference]\nstore = "store"\nmodels_dir = "under"\n', encoding="utf-8")
    models("install", tiny("1.1.0"), "--activate", "--config", config)
    assert row_of(models, "tiny", "covered", "--config", config)["version"] == "0.9.0"
    shutil.rmtree(tmp_path / "store" / "tiny" / "1.1.0")
    missing = row_of(models, "tiny", "missing", "--config", config)
    assert (missing["version"], missing["from"]) == ("1.1.0", "store")
    assert "rollback tiny" in missing["note"]
    for version in (["1.1.0"], []):
        said = models("activate", "tiny", *version, "--config", config)
        assert said.status == 1
        assert "store/tiny/1.1.0: its folder is gone" in said.err
        assert "install it again, or edge-agent models rollback tiny" in said.err
    active = row_of(models, "tiny", "active", "--config", config)
    assert (active["version"], active["note"]) == ("0.9.0", "since the active 1.1.0 is missing")
    assert models("rollback", "tiny", "--config", config, "--json").json["active"] == "0.9.0"
    assert row_of(models, "tiny", "active", "--config", config)["note"] is None


def test_what_is_active_is_not_said_to_want_activating(models: Run, tiny: Callable[..., Path]) -> None:
    models("install", tiny(), "--activate")
    said = models("install", tiny())
    assert "was installed already" in said.out
    assert "it is the active version: nothing to do" in said.out
    assert "activate tiny" not in said.out
    assert "active already" in models("activate", "tiny").out
    assert row_of(models, "tiny")["state"] == "trial"
    assert models("activate", "tiny", "--no-trial").status == 0
    assert row_of(models, "tiny")["state"] == "active"


def test_removing_says_what_is_left(models: Run, tiny: Callable[..., Path]) -> None:
    models("install", tiny("1.0.0"), "--activate")
    models("install", tiny("1.1.0"))
    said = models("remove", "tiny", "1.1.0")
    assert said.out == "tiny: removed: 1.1.0\ntiny 1.0.0: active\n"  # nothing to reload for
    said = models("remove", "tiny")
    assert "tiny: removed: 1.0.0" in said.out
    assert "1.1.0 was here stays known" in said.out
    assert "tiny: no version is active" in said.out
    assert "reload" in said.out
    said = models("remove", "tiny")
    assert said.status == 0
    assert "no version of it was left to remove" in said.out
    assert "reload" not in said.out
    said = models("remove", "ecg-af-rr")
    assert said.status == 1
    assert "ecg-af-rr: no version of it is installed" in said.err
    assert "what came with the agent is not removed" in said.err
    models("install", tiny("1.2.0"))
    assert "there are: 1.2.0" in models("remove", "tiny", "9.9.9").err


def test_a_configuration_of_models_alone_is_enough(models: Run, tmp_path: Path) -> None:
    config = tmp_path / "models.toml"
    config.write_text('[inference]\nstore = "elsewhere"\n', encoding="utf-8")
    assert f"store: {tmp_path}/elsewhere" in models("list", "--config", config).out
    # A misspelt table must not pass for none: it may hold the keys.
    config.write_text('[inferense]\nstore = "elsewhere"\n', encoding="utf-8")
    assert "did you mean 'inference'" in models("list", "--config", config).err
    config.write_text("[inference]\ntrial_windows = 0\n", encoding="utf-8")
    assert "inference.trial_windows" in models("list", "--config", config).err
    # Whether a board is plugged in is nothing to do with models.
    config.write_text('[[stream]]\nname = "bed"\n[stream.source]\ntype = "file"\npath = "nowhere"\n', encoding="utf-8")
    assert models("list", "--config", config).status == 0
    with pytest.raises(ConfigError, match="stream"):
        load_config(config)


def test_what_a_signature_is_worth(models: Run, tiny: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    for name in ("mine", "theirs"):
        models("keygen", f"{name}.pem")
    config = tmp_path / "models.toml"
    config.write_text('[inference]\nstore = "store"\ntrusted_keys = ["mine.pem.pub"]\n', encoding="utf-8")
    bare = tmp_path / "bare.toml"
    bare.write_text('[inference]\nstore = "store"\n', encoding="utf-8")
    folder = tiny()
    models("install", folder, "--config", config)
    place = tmp_path / "store" / "tiny" / "1.0.0"

    def word(with_config: Path = config) -> tuple[str, bool]:
        row = row_of(models, "tiny", None, "--config", with_config)
        return row["signature"], row["signed"]

    assert word() == ("unsigned", False)
    models("sign", place, "--key", "theirs.pem")
    assert word() == ("unknown key", False)
    models("sign", place, "--key", "mine.pem")
    assert word() == ("trusted", True)
    assert word(bare) == ("not checked", False)
    key = signature.public_key("mine.pem.pub")
    assert f" trusted {key.id[:8]} " in models("list", "--config", config).out
    good = (place / "manifest.sig").read_bytes()
    for garbage in (b"", good[:-1], good + b"x", bytes(64), good[:32] + b"\xff" * 32, b"x" * 1000):
        (place / "manifest.sig").write_bytes(garbage)
        assert word() == ("bad", False)
        assert word(bare) == ("bad", False)


ESCAPE, TURN = "\x1b]0;owned\x07", "\u202e"


def test_nothing_of_a_model_reaches_the_terminal_as_a_command_to_it(
    models: Run, tiny: Callable[..., Path], tmp_path: Path
) -> None:
    """Neither an escape sequence nor a line break of its own nor a mark that turns the direction."""
    folder = tiny()
    about = json.loads((folder / "manifest.json").read_bytes())
    training = {**about["training"], "licence": "free\nedge-agent: all is well", "data": ["a\nb"]}
    hostile: list[dict[str, Any]] = [
        {**about, "labels": [f"a{ESCAPE}", *about["labels"][1:]]},
        {**about, "name": f"tiny{ESCAPE}"},
        {**about, "version": f"1.0.0{ESCAPE}"},
        {**about, f"key{ESCAPE}": 1},
        {**about, "task": ESCAPE},
        {**about, "files": {**about["files"], f"x{ESCAPE}": "0" * 64}},
        {**about, "training": {**training, "licence": f"free{ESCAPE}"}},
        {**about, "training": {**training, "protocol": TURN}},
        {**about, "output": {**about["output"], "thresholds": {f"a{ESCAPE}\nb": 0.5}}},
        {**about, "minimum_agent_version": f"9.9.9{ESCAPE}"},
        {**about, "training": training},
    ]
    for number, content in enumerate(hostile):
        (folder / "manifest.json").write_text(json.dumps(content), encoding="utf-8")
        for command in ("verify", "install", "sign", "pack"):
            said = models(command, folder, *(["--key", "x"] if command == "sign" else []))
            assert said.status == (0 if number == 10 and command != "sign" else 1), (number, command, said)
            for text in (said.out, said.err):
                assert text.replace("\n", "").isprintable(), (number, command, text)
            assert len(said.err.splitlines()) <= 2, said.err
    assert "\nlicence: free\\nedge-agent: all is well\n" in models("show", "tiny").out
    # What got in by another way than the command.
    place = tmp_path / "state" / "edge-agent" / "models" / "tiny"
    about = json.loads((place / "state.json").read_bytes()) | {"failed": {"1.0.0": ESCAPE}, "digest": None}
    (place / "state.json").write_text(json.dumps(about), encoding="utf-8")
    said = models("list")
    assert "\\x1b]0;owned\\x07" in said.out
    assert said.out.replace("\n", "").isprintable()
    said = models("list", "--config", f"nowhere{ESCAPE}")
    assert said.err.replace("\n", "").isprintable()
