"""Run by TensorFlow 2.5 on Python 3.9, in its own environment: does an interpreter of the Edge TPU compiler's age load and
compute this file? ``tf25_gate.py FILE.tflite INPUTS.npz OUTPUTS.npz``; imports nothing of edge_train."""

import sys
from typing import Any

import numpy as np


def main() -> None:
    import tensorflow as tf

    # Its reference kernels: the optimised ones round otherwise by 1 LSB, of which a softmax makes several.
    kernels = tf.lite.experimental.OpResolverType.BUILTIN_REF
    interpreter = tf.lite.Interpreter(model_path=sys.argv[1], experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    inputs = {detail["name"]: detail["index"] for detail in interpreter.get_input_details()}
    outputs = interpreter.get_output_details()
    with np.load(sys.argv[2]) as cases:
        arrays = {name: cases[name] for name in cases.files}
    found = []
    for case in range(len(next(iter(arrays.values())))):
        for name, values in arrays.items():
            interpreter.set_tensor(inputs[name], values[case])
        interpreter.invoke()
        found.append([interpreter.get_tensor(detail["index"]) for detail in outputs])
    columns: Any = {"output" + str(i): np.array([row[i] for row in found]) for i in range(len(outputs))}
    np.savez(sys.argv[3], version=np.array(tf.__version__), **columns)


if __name__ == "__main__":
    main()
