"""Samples over LSL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.errors import SourceError
from tests.sources.test_live_sources import LSL_CONFIG, OUTLET
from tests.spine import ROOT


def test_an_lsl_outlet_through_its_inlet(tmp_path: Path) -> None:
    """In processes of their own: LSL reads its configuration once, and its threads outlive a test."""
    pytest.importorskip("pylsl")
    (tmp_path / "lsl.cfg").write_text(LSL_CONFIG, encoding="utf-8")
    environment = {**os.environ, "LSLAPICFG": str(tmp_path / "lsl.cfg"), "PYTHONPATH": str(ROOT)}
    inlet = """
import json, sys, threading
from edge_agent.config import LslSource
from edge_agent.errors import SourceError, SourceLost
from edge_agent.sources.lsl import open_lsl
try:
    open_lsl(LslSource(type="lsl", name="nobody", resolve_s=0.5))
except SourceError as error:
    missing = str(error)
source = open_lsl(LslSource(type="lsl", name=sys.argv[1], columns=["II", "ABP", "-"], resolve_s=10, silent_s=2))
print(json.dumps([[s.name, s.kind, s.unit] for s in source.info.signals]), source.info.fs, flush=True)
blocks = []
try:
    for block in source.blocks(threading.Event()):
        blocks.append([block.first, block.lost_before, block.values[0].tolist()])
except SourceLost as error:
    lost = str(error)
print(json.dumps({"blocks": blocks, "missing": missing, "lost": lost, "counters": source.counters()}))
source.close()
"""
    name = f"test-{os.getpid()}"
    outlet = subprocess.Popen(
        [sys.executable, "-c", OUTLET, name, "400"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert outlet.stdout is not None
        assert outlet.stdout.readline() == "ready\n"
        done = subprocess.run(
            [sys.executable, "-c", inlet, name],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        outlet.kill()
        outlet.communicate()
    assert done.returncode == 0, done.stderr[-2000:]
    first, last = done.stdout.strip().splitlines()
    assert first == '[["II", "ecg", "mV"], ["ABP", "abp", "mmHg"]] 250.0'
    result = json.loads(last)
    assert "there is no LSL outlet of name 'nobody'" in result["missing"]
    assert "no sample for 2 s" in result["lost"]
    values = [value for _, _, row in result["blocks"] for value in row]
    np.testing.assert_allclose(values, np.arange(750) / 1000, rtol=1e-6)
    gaps = [(first, lost) for first, lost, _ in result["blocks"] if lost]
    assert gaps == [(650, 250)]
    assert result["counters"]["samples_lost_estimated"] == 250


def test_an_lsl_outlet_that_vanishes_is_lost(tmp_path: Path) -> None:
    pytest.importorskip("pylsl")
    (tmp_path / "lsl.cfg").write_text(LSL_CONFIG, encoding="utf-8")
    environment = {**os.environ, "LSLAPICFG": str(tmp_path / "lsl.cfg"), "PYTHONPATH": str(ROOT)}
    inlet = """
import sys, threading
from edge_agent.config import LslSource
from edge_agent.errors import SourceLost
from edge_agent.sources.lsl import open_lsl
source = open_lsl(LslSource(type="lsl", name=sys.argv[1], resolve_s=10, silent_s=20))
print("open", flush=True)
try:
    for block in source.blocks(threading.Event()):
        print("block", flush=True)
except SourceLost as error:
    print("lost:", error, flush=True)
source.close()
"""
    name = f"gone-{os.getpid()}"
    pipes: dict[str, Any] = {"env": environment, "stdout": subprocess.PIPE, "text": True}
    outlet = subprocess.Popen(
        [sys.executable, "-c", OUTLET, name, "750"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, **pipes
    )
    taker: subprocess.Popen[str] | None = None
    try:
        assert outlet.stdout is not None
        assert outlet.stdout.readline() == "ready\n"
        taker = subprocess.Popen([sys.executable, "-c", inlet, name], stderr=subprocess.PIPE, **pipes)
        assert taker.stdout is not None
        assert [taker.stdout.readline() for _ in range(2)] == ["open\n", "block\n"]
        outlet.kill()
        said, errors = taker.communicate(timeout=60)
    finally:
        for one in (outlet, taker):
            if one is not None:
                one.kill()
                one.communicate()
    assert taker.returncode == 0, errors[-2000:]
    assert f"lost: LSL outlet of name '{name}' has gone" in said


def test_lsl_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_agent.sources.lsl import library

    monkeypatch.setitem(sys.modules, "pylsl", None)
    with pytest.raises(SourceError, match="pip install"):
        library()
