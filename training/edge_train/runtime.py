"""TensorFlow as everything here uses it: one thread, deterministic, no graphics card, no chatter."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np


@cache
def quiet() -> Any:
    """TensorFlow itself. One thread and deterministic operators: results repeat bit for bit, and nets this small gain
    nothing by more. Mixed precision is off, whatever a user's ~/.keras says."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    with _without_chatter():
        import tensorflow as tf

        try:
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        except RuntimeError:
            pass  # already running in this process: as it was set then
        tf.config.experimental.enable_op_determinism()
        tf.keras.config.set_dtype_policy("float32")
        tf.get_logger().setLevel("ERROR")
        tf.constant(0)  # starts its runtime, which says the same again
    return tf


@contextlib.contextmanager
def _without_chatter() -> Iterator[None]:
    """Some lines about graphics cards come before TensorFlow reads how quiet it shall be. All else is passed on."""
    sys.stderr.flush()
    real = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(real, 2)
            os.close(real)
            caught.seek(0)
            for line in caught.read().splitlines(keepends=True):
                if not re.match(
                    rb"[IW]\d{4} |WARNING: All log messages before absl|To enable the following instr", line
                ):
                    os.write(2, line)


def versions() -> dict[str, str]:
    """What a run was made with."""
    tf = quiet()
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": tf.keras.__version__,
        "numpy": np.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
    }


def command_line() -> str:
    """The command that started this process, as it can be typed again."""
    name = Path(sys.argv[0]).name
    return shlex.join(["edge-train" if name in ("__main__.py", "cli.py") else name, *sys.argv[1:]])
