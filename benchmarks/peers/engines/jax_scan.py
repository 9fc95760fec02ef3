"""JAX: the whole pass over the data is one program, `jit` around `lax.scan`, its weights donated."""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
from jax import lax

from benchmarks.peers.engines import Task, in_batches, jax_deep, way_and_batch
from benchmarks.peers.problem import CLASSES, FILTERS, LEARNING_RATE, POOLED, Array, Problem, scaled
from benchmarks.peers.workloads import Workload

Parameters = tuple[jax.Array, jax.Array, jax.Array]
Logits = Callable[[Parameters, jax.Array], jax.Array]


class Engine:
    """See `benchmarks.peers.engines`. XLA takes its threads from the processors this process may run on."""

    def __init__(self, threads: int) -> None:
        pass

    def versions(self) -> dict[str, str]:
        return {
            "jax": jax.__version__,
            "jaxlib": jaxlib.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        }

    def variants(self, workload: Workload) -> list[str]:
        if workload.convolves:
            return list(jax_deep.CONVOLUTIONS)
        ways = FORWARD if workload.network == "tutorial" else jax_deep.CONVOLUTIONS
        return in_batches(ways, workload, (100, 1000))

    def task(self, workload: Workload, variant: str, samples: int, problem: Problem) -> Task:
        if workload.convolves:
            return jax_deep.Convolution(workload, variant)
        if workload.network != "tutorial":
            return jax_deep.task(workload, *way_and_batch(variant, workload), samples, problem)
        parameters = tuple(jnp.array(array) for array in (problem.filters, problem.weights, problem.bias))
        way, batch_size = way_and_batch(variant, workload)
        logits = FORWARD[way]
        if workload.kind == "train":
            images, labels = scaled(problem.images[:samples]), problem.labels[:samples].astype(np.int32)
            return Training(logits, parameters, images, labels, batch_size)
        images = scaled(problem.test_images[:samples])
        return Inference(logits, parameters, images, batch_size)


def _dense(parameters: Parameters, pooled: jax.Array) -> jax.Array:
    _, weights, bias = parameters
    return pooled.reshape(len(pooled), -1) @ weights + bias


def _by_convolution(parameters: Parameters, x: jax.Array) -> jax.Array:
    """XLA's convolution and window reduction."""
    y = lax.conv_general_dilated(x, parameters[0], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return _dense(parameters, lax.reduce_window(y, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"))


def _pool_by_reshape(y: jax.Array) -> jax.Array:
    return y.reshape(len(y), POOLED, 2, POOLED, 2, FILTERS).max((2, 4))


def _by_convolution_and_reshape(parameters: Parameters, x: jax.Array) -> jax.Array:
    """XLA's convolution, pooling as a maximum over axes."""
    y = lax.conv_general_dilated(x, parameters[0], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return _dense(parameters, _pool_by_reshape(y))


def _by_patches(parameters: Parameters, x: jax.Array) -> jax.Array:
    """The convolution as a matrix product with the nine shifted images."""
    size = 2 * POOLED
    patches = jnp.stack([x[:, i : i + size, j : j + size, 0] for i in range(3) for j in range(3)], -1)
    return _dense(parameters, _pool_by_reshape(patches @ parameters[0].reshape(9, FILTERS)))


def _by_shifts(parameters: Parameters, x: jax.Array) -> jax.Array:
    """The convolution as a sum of nine shifted images, which XLA fuses into one loop."""
    size, filters = 2 * POOLED, parameters[0]
    shifted = [x[:, i : i + size, j : j + size] * filters[i, j, 0] for i in range(3) for j in range(3)]
    return _dense(parameters, _pool_by_reshape(sum(shifted[1:], shifted[0])))


FORWARD: dict[str, Logits] = {
    "convolution": _by_convolution,
    "convolution, pooling by reshape": _by_convolution_and_reshape,
    "patches": _by_patches,
    "shifts": _by_shifts,
}


class Training:
    """A scan over all whole batches; a last short batch is a step of its own in the same program."""

    def __init__(self, logits: Logits, parameters: Any, images: Array, labels: Array, batch_size: int) -> None:
        whole = len(images) // batch_size * batch_size
        shape = (-1, batch_size, *images.shape[1:])
        self._batches = jnp.array(images[:whole].reshape(shape)), jnp.array(labels[:whole].reshape(shape[:2]))
        self._rest = jnp.array(images[whole:]), jnp.array(labels[whole:])
        self._parameters: Parameters = parameters

        def loss(parameters: Parameters, x: jax.Array, y: jax.Array) -> jax.Array:
            scores = jax.nn.log_softmax(logits(parameters, x))
            return -jnp.take_along_axis(scores, y[:, None], 1).mean()

        def step(parameters: Parameters, batch: tuple[jax.Array, jax.Array]) -> tuple[Parameters, None]:
            gradients = jax.grad(loss)(parameters, *batch)
            return jax.tree.map(lambda p, g: p - LEARNING_RATE * g, parameters, gradients), None

        @partial(jax.jit, donate_argnums=0)
        def epoch(parameters: Parameters, batches: Any, rest: Any) -> Parameters:
            parameters, _ = lax.scan(step, parameters, batches)
            return step(parameters, rest)[0] if len(rest[0]) else parameters

        self._epoch = epoch

    def run(self) -> None:
        self._parameters = jax.block_until_ready(self._epoch(self._parameters, self._batches, self._rest))

    def outcome(self) -> dict[str, Array]:
        filters, weights, bias = (np.asarray(array) for array in self._parameters)
        return {"filters": filters, "weights": weights.reshape(-1, CLASSES), "bias": bias}


class Inference:
    """A call for each batch."""

    def __init__(self, logits: Logits, parameters: Any, images: Array, batch_size: int) -> None:
        self._parameters = parameters
        self._batches = [jnp.array(images[i : i + batch_size]) for i in range(0, len(images), batch_size)]
        self._predict = jax.jit(lambda parameters, x: jax.nn.softmax(logits(parameters, x)))
        self._outputs: list[jax.Array] = []

    def run(self) -> None:
        one_a_call = len(self._batches[0]) == 1
        self._outputs = []
        for x in self._batches:
            y = self._predict(self._parameters, x)
            self._outputs.append(y.block_until_ready() if one_a_call else y)
        jax.block_until_ready(self._outputs)

    def outcome(self) -> dict[str, Array]:
        return {"probabilities": np.concatenate(self._outputs)}
