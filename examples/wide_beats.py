"""A model made elsewhere: narrow and wide heartbeats told apart by a net that knows nothing of this project.

    python examples/wide_beats.py wide-beats.tflite        (wants tensorflow, in an environment of its own)

Its data are drawn: bell curves of 60 to 110 ms and of 130 to 220 ms, upright or inverted, in noise. docs/bring-your-own-model.md goes on.
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

rng = np.random.default_rng(0)
wide = np.arange(4000) % 2
width = (
    np.where(wide, rng.uniform(0.13, 0.22, 4000), rng.uniform(0.06, 0.11, 4000)) / 4
)  # a quarter of it: the bell's sigma
t = (np.arange(75) - 37) / 125 + rng.normal(0, 0.01, (4000, 1))  # 0.6 s at 125 Hz, the peak about in the middle
x = np.exp(-((t / width[:, None]) ** 2) / 2) * rng.choice([-1, 1], (4000, 1)) + rng.normal(0, 0.08, t.shape)
x = ((x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)).astype(
    np.float32
)  # what the manifest will say: zscore

beat = tf.keras.Input((1, 75, 1), name="beat", batch_size=None)
y = tf.keras.layers.Conv2D(8, (1, 9), strides=(1, 2), activation="relu")(beat)
y = tf.keras.layers.Conv2D(8, (1, 5), strides=(1, 2), activation="relu")(y)
net = tf.keras.Model(beat, tf.keras.layers.Dense(2, activation="softmax")(tf.keras.layers.Flatten()(y)))
net.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
net.fit(x.reshape(-1, 1, 75, 1), wide, epochs=4, validation_split=0.2, verbose=2)

one = tf.keras.Input((1, 75, 1), name="beat", batch_size=1)  # a batch of one: no dynamic shape
converter = tf.lite.TFLiteConverter.from_keras_model(tf.keras.Model(one, net(one)))
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.representative_dataset = lambda: ([row.reshape(1, 1, 75, 1)] for row in x[:300])
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
converter.inference_input_type = converter.inference_output_type = tf.int8
converter._experimental_disable_per_channel_quantization_for_dense_layers = True  # or the Edge TPU computes it wrongly
Path(sys.argv[1]).write_bytes(converter.convert())
