"""A TFLite file without what no interpreter needs: names of inner tensors, ranges seen while calibrating, equal buffers
twice, the converter's notes. A third to a half of a tiny model's bytes; its arithmetic stays as it was."""

from __future__ import annotations

from typing import Any


def compact(tflite: bytes) -> bytes:
    """The names of inputs and outputs stay: the daemon orders inputs by them."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(tflite, 0))
    for graph in model.subgraphs:
        seen = {int(i) for i in (*graph.inputs, *graph.outputs)}
        for i, tensor in enumerate(graph.tensors):
            if i not in seen:
                tensor.name = None
            if tensor.quantization is not None:
                tensor.quantization.min = tensor.quantization.max = None
    _share_buffers(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _share_buffers(model: Any) -> None:
    """Buffer 0 is the empty one, by TFLite's rule."""
    kept = [model.buffers[0]]
    place: dict[bytes, int] = {}
    moved = {0: 0}
    for i, buffer in enumerate(model.buffers[1:], 1):
        content = None if buffer.data is None else bytes(buffer.data)
        if not content:
            moved[i] = 0
            continue
        if content not in place:
            place[content] = len(kept)
            kept.append(buffer)
        moved[i] = place[content]
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.buffer = moved[int(tensor.buffer)]
    model.metadata = None  # the converter's notes; they name buffers too
    model.buffers = kept
