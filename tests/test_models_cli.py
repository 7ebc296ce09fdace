"""``edge-agent models``: what it prints, its exit status, and what it leaves."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge_agent import models_shown
from edge_agent.cli import main
from edge_agent.inference.installed import signature
from edge_agent.inference.judge import model_names, shipped_models
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
    assert models("verify", archive).out.startswith("tiny 1.0.0: good")
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
    assert f"{place}: its signature is by none" in said.err
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
