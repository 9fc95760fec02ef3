"""Deep networks in Keras on TensorFlow: `fit` from tf.data or arrays, several steps an execution, or XLA."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.peers import networks
from benchmarks.peers.engines import Task, named, network_of, orders, rates_of
from benchmarks.peers.networks import Network
from benchmarks.peers.problem import Array, Problem
from benchmarks.peers.workloads import Workload

#: Name -> (arrays or tf.data, steps an execution, XLA).
TRAINING = {
    "fit": ("arrays", 1, False),
    "fit, tf.data, 16 steps an execution": ("tf.data", 16, False),
    "fit, tf.data, 16 steps an execution, XLA": ("tf.data", 16, True),
}
INFERENCE = {"tf.function": False, "tf.function, XLA": True}


class Rates(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Learning rates from a table, the last one for ever."""

    def __init__(self, rates: Array) -> None:
        self._rates = tf.constant(rates)

    def __call__(self, step: Any) -> Any:
        return tf.gather(self._rates, tf.minimum(tf.cast(step, tf.int32), len(self._rates) - 1))


def model_of(network: Network) -> Any:
    """The network with its initial weights; gives logits."""
    layers = [keras.Input((networks.SIZE, networks.SIZE, 1))]
    for layer in network.layers:
        if isinstance(layer, networks.Conv):
            layers.append(keras.layers.Conv2D(layer.filters, layer.kernel))
        elif isinstance(layer, networks.Pool):
            layers.append(keras.layers.MaxPooling2D(2))
        elif isinstance(layer, networks.Relu):
            layers.append(keras.layers.ReLU())
        elif isinstance(layer, networks.Dropout):
            layers.append(keras.layers.Dropout(layer.rate))
        elif isinstance(layer, networks.Flatten):
            layers.append(keras.layers.Flatten())
        else:
            layers.append(keras.layers.Dense(layer.units))
    model = keras.Sequential(layers)
    model.set_weights(network.weights())
    return model


def task(workload: Workload, way: str, batch_size: int, samples: int, problem: Problem) -> Task:
    """The work on the first `samples` images, their pixels already as the network sees them."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    network = network_of(workload)
    model = model_of(network)
    if workload.trains:
        images, labels = network.scaled(problem.images[:samples]), problem.labels[:samples].astype(np.int32)
        return Training(model, network, images, labels, workload, *TRAINING[way])
    return Inference(model, network.scaled(problem.test_images[:samples]), batch_size, INFERENCE[way])


class Training:
    """One epoch of `fit`, without metrics."""

    def __init__(
        self,
        model: Any,
        network: Network,
        images: Array,
        labels: Array,
        workload: Workload,
        feed: str,
        steps: int,
        xla: bool,
    ) -> None:
        self._model, self._network, self._workload = model, network, workload
        self._images, self._labels = images, labels
        self._batch_size, self._shuffled = workload.batch_size, workload.kind == "reach"
        self._orders = orders(workload, len(images), 0)
        if network.optimizer == "adadelta":
            optimizer = keras.optimizers.Adadelta(network.rate, networks.RHO, networks.EPSILON)
        else:
            rates = Rates(rates_of(network, workload))
            optimizer = keras.optimizers.Adam(rates, networks.BETA_1, networks.BETA_2, networks.EPSILON)
        model.compile(
            optimizer,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            steps_per_execution=max(1, min(steps, len(images) // self._batch_size)),
            jit_compile=xla,
        )
        self._from_arrays = feed == "arrays"
        self._data = None if self._from_arrays or self._shuffled else self._dataset(images, labels)

    def restart(self, seed: int) -> None:
        self._model.set_weights(self._network.weights(seed))
        for variable in self._model.optimizer.variables:
            if variable.name != "learning_rate":
                variable.assign(tf.zeros_like(variable))
        self._orders = orders(self._workload, len(self._images), seed)

    def _dataset(self, images: Array, labels: Array) -> Any:
        data = tf.data.Dataset.from_tensor_slices((images, labels))
        return data.batch(self._batch_size).cache().prefetch(tf.data.AUTOTUNE)

    def run(self) -> None:
        images, labels = self._images, self._labels
        if self._shuffled:
            order = next(self._orders)
            images, labels = images[order], labels[order]
        if self._from_arrays:
            self._model.fit(images, labels, batch_size=self._batch_size, epochs=1, shuffle=False, verbose=0)
        else:
            self._model.fit(self._data or self._dataset(images, labels), epochs=1, shuffle=False, verbose=0)

    def outcome(self) -> dict[str, Array]:
        return named(self._model.get_weights())


class Inference:
    """A call for each batch."""

    def __init__(self, model: Any, images: Array, batch_size: int, xla: bool) -> None:
        self._batches = [tf.constant(images[i : i + batch_size]) for i in range(0, len(images), batch_size)]
        self._predict = tf.function(lambda x: tf.nn.softmax(model(x, training=False)), jit_compile=xla)
        self._outputs: list[Any] = []

    def run(self) -> None:
        self._outputs = [self._predict(x).numpy() for x in self._batches]

    def outcome(self) -> dict[str, Array]:
        return {"probabilities": np.concatenate(self._outputs)}
