"""LSTM and GRU layers that become int8 TFLite.

Keras 3's own LSTM crashes TensorFlow 2.21's int8 converter, and unrolled it becomes a dozen operators a step (three layers of
50 steps: 757 kB). The converter does know how to put one UNIDIRECTIONAL_SEQUENCE_LSTM in place of a function that is marked
as Keras 2 marked its LSTM (arguments, five results, ``api_implements``): so this layer is such a function, and three layers
are 28 kB. What the function does inside is then for training alone. TFLite has no operator for a GRU: that one is unrolled.
"""

from __future__ import annotations

from functools import cache
from itertools import count
from typing import Any

from edge_train.runtime import quiet

_serial = count()


@cache
def layers() -> dict[str, Any]:
    """The layer classes by name; made when first asked for, since TensorFlow takes seconds to import."""
    tf = quiet()

    class _Recurrent(tf.keras.layers.Layer):  # type: ignore[misc,name-defined]  # TensorFlow has no types
        gates = 4

        def __init__(self, units: int, return_sequences: bool = False, **more: Any) -> None:
            super().__init__(**more)
            self.units = units
            self.return_sequences = return_sequences

        def get_config(self) -> dict[str, Any]:
            own = {"units": self.units, "return_sequences": self.return_sequences}
            return super().get_config() | own  # type: ignore[no-any-return]

        def build(self, shape: tuple[int | None, ...]) -> None:
            width = self.gates * self.units
            self.kernel = self.add_weight(shape=(shape[-1], width), initializer="glorot_uniform", name="kernel")
            self.recurrent = self.add_weight(shape=(self.units, width), initializer="orthogonal", name="recurrent")
            self.bias = self.add_weight(shape=(width,), initializer="zeros", name="bias")
            self.built = True

        def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
            return (shape[0], shape[1], self.units) if self.return_sequences else (shape[0], self.units)

    @tf.keras.utils.register_keras_serializable("edge_train")
    class Lstm(_Recurrent):
        """Gates in Keras's order: input, forget, cell, output; the forget gate's bias begins at 1."""

        def build(self, shape: tuple[int | None, ...]) -> None:
            super().build(shape)
            ones = [0.0] * self.units + [1.0] * self.units + [0.0] * (2 * self.units)
            self.bias.assign(ones)

            def lstm(x: Any, h: Any, c: Any, kernel: Any, recurrent: Any, bias: Any) -> Any:
                said = []
                for part in tf.unstack(tf.matmul(x, kernel) + bias, axis=1):
                    i, f, g, o = tf.split(part + tf.matmul(h, recurrent), 4, axis=1)
                    c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
                    h = tf.sigmoid(o) * tf.tanh(c)
                    said.append(h)
                return h, tf.stack(said, 1), h, c, tf.constant(0.0)  # the last: which implementation ran

            self._fused = tf.function(
                lstm,
                autograph=False,
                experimental_attributes={
                    "api_implements": f"lstm_{next(_serial)}",  # of one name TensorFlow takes any, another net's too
                    "api_preferred_device": "CPU",
                    "go_backwards": False,
                    "time_major": False,
                },
            )

        def call(self, x: Any) -> Any:
            rest = tf.zeros((x.shape[0] or tf.shape(x)[0], self.units))
            weights = [tf.convert_to_tensor(each) for each in (self.kernel, self.recurrent, self.bias)]
            last, sequence, *_ = self._fused(x, rest, rest, *weights)
            return sequence if self.return_sequences else last

    @tf.keras.utils.register_keras_serializable("edge_train")
    class Gru(_Recurrent):
        """Cho's form (the reset gate before the product), gates in order: update, reset, candidate."""

        gates = 3

        def call(self, x: Any) -> Any:
            n = self.units
            gates, candidate = self.recurrent[:, : 2 * n], self.recurrent[:, 2 * n :]
            h: Any = None
            said = []
            for part in tf.unstack(tf.matmul(x, self.kernel) + self.bias, axis=1):
                update, reset, new = tf.split(part, 3, axis=1)
                if h is None:  # from rest: h is 0, and operators on zeros would stay in the file as floats
                    h = (1 - tf.sigmoid(update)) * tf.tanh(new)
                else:
                    from_update, from_reset = tf.split(tf.matmul(h, gates), 2, axis=1)
                    new = tf.tanh(new + tf.matmul(tf.sigmoid(reset + from_reset) * h, candidate))
                    h = new + tf.sigmoid(update + from_update) * (h - new)
                said.append(h)
            return tf.stack(said, 1) if self.return_sequences else h

    return {"lstm": Lstm, "gru": Gru}
