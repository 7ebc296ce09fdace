"""Whether a TFLite file is one that the Edge TPU compiler takes and maps whole: the daemon's own judgement, as this package says errors."""

from __future__ import annotations

from edge_agent.inference.tflite.check import Report
from edge_agent.inference.tflite.check import examine as examine_file
from edge_agent.inference.tflite.file import TfliteError
from edge_agent.inference.tflite.operators import COMPILED, PROVEN_VERSIONS, UNPROVEN
from edge_train.errors import DataError

__all__ = ["COMPILED", "PROVEN_VERSIONS", "UNPROVEN", "Report", "TpuError", "examine"]


class TpuError(DataError):
    """A file that cannot be looked into at all."""


def examine(tflite: bytes) -> Report:
    """Operator by operator, tensor by tensor."""
    try:
        return examine_file(tflite, "")
    except TfliteError as error:
        raise TpuError(error.what.removeprefix(": ")) from None
