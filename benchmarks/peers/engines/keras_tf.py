"""Keras on TensorFlow: `fit`, several steps an execution, with and without XLA; inference by a compiled function."""

from __future__ import annotations

import platform
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.peers.engines import Task, in_batches, keras_convolution, keras_deep, way_and_batch
from benchmarks.peers.problem import CLASSES, FILTERS, LEARNING_RATE, Array, Problem, scaled
from benchmarks.peers.workloads import Workload

#: Name -> (arrays or tf.data, steps an execution, XLA). One step an execution is what a plain `fit` does.
TRAINING = {
    "fit": ("arrays", 1, False),
    "fit, XLA": ("arrays", 1, True),
    "fit, tf.data, 32 steps an execution": ("tf.data", 32, False),
    "fit, tf.data, 32 steps an execution, XLA": ("tf.data", 32, True),
}


class Engine:
    """See `benchmarks.peers.engines`."""

    def __init__(self, threads: int) -> None:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)

    def versions(self) -> dict[str, str]:
        return {
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        }

    def variants(self, workload: Workload) -> list[str]:
        if workload.convolves:
            return list(keras_convolution.WAYS)
        if workload.network != "tutorial":
            ways = keras_deep.TRAINING if workload.trains else keras_deep.INFERENCE
            return in_batches(ways, workload, (100, 1000))
        return in_batches(TRAINING if workload.kind == "train" else keras_deep.INFERENCE, workload, (1000, 10_000))

    def task(self, workload: Workload, variant: str, samples: int, problem: Problem) -> Task:
        if workload.convolves:
            return keras_convolution.Convolution(workload, variant)
        way, batch_size = way_and_batch(variant, workload)
        if workload.network != "tutorial":
            return keras_deep.task(workload, way, batch_size, samples, problem)
        keras.backend.clear_session()
        model = keras.Sequential(
            [
                keras.Input((28, 28, 1)),
                keras.layers.Conv2D(FILTERS, 3, use_bias=False),
                keras.layers.MaxPooling2D(2),
                keras.layers.Flatten(),
                keras.layers.Dense(CLASSES),
            ]
        )
        model.set_weights([problem.filters, problem.weights, problem.bias])
        if workload.kind == "train":
            images, labels = scaled(problem.images[:samples]), problem.labels[:samples].astype(np.int32)
            return Training(model, images, labels, batch_size, *TRAINING[way])
        images = scaled(problem.test_images[:samples])
        return keras_deep.Inference(model, images, batch_size, keras_deep.INFERENCE[way])


class Training:
    """One epoch of `fit`, in the images' order, without metrics."""

    def __init__(
        self, model: Any, images: Array, labels: Array, batch_size: int, feed: str, steps: int, xla: bool
    ) -> None:
        self._model = model
        model.compile(
            keras.optimizers.SGD(LEARNING_RATE),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            steps_per_execution=max(1, min(steps, len(images) // batch_size)),
            jit_compile=xla,
        )
        if feed == "tf.data":
            data = tf.data.Dataset.from_tensor_slices((images, labels)).cache()
            self._feed = {"x": data.batch(batch_size).prefetch(tf.data.AUTOTUNE)}
        else:
            self._feed = {"x": images, "y": labels, "batch_size": batch_size}

    def run(self) -> None:
        self._model.fit(**self._feed, epochs=1, shuffle=False, verbose=0)

    def outcome(self) -> dict[str, Array]:
        return dict(zip(("filters", "weights", "bias"), self._model.get_weights(), strict=True))
