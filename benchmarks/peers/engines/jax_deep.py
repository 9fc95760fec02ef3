"""Deep networks and convolutions in JAX: a whole pass over the data is one program, `jit` around `lax.scan`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.peers import networks
from benchmarks.peers.engines import Task, named, network_of, orders, rates_of
from benchmarks.peers.networks import Network
from benchmarks.peers.problem import Array, Problem, convolution
from benchmarks.peers.shapes import ConvShape
from benchmarks.peers.workloads import Workload

Weights = list[jax.Array]
Convolve = Callable[[jax.Array, jax.Array, int, int], jax.Array]


def _by_convolution(x: jax.Array, filters: jax.Array, stride: int, padding: int) -> jax.Array:
    """XLA's convolution."""
    around = [(padding, padding)] * 2
    return lax.conv_general_dilated(x, filters, (stride, stride), around, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _taps(x: jax.Array, filters: jax.Array, stride: int, padding: int) -> list[jax.Array]:
    """The image under each tap of the kernel."""
    x = jnp.pad(x, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    size = x.shape[1] - filters.shape[0] + 1
    steps = range(filters.shape[0])
    return [x[:, i : i + size : stride, j : j + size : stride] for i in steps for j in steps]


def _by_patches(x: jax.Array, filters: jax.Array, stride: int, padding: int) -> jax.Array:
    """A matrix product with the shifted images side by side."""
    patches = jnp.concatenate(_taps(x, filters, stride, padding), -1)
    return patches @ filters.reshape(-1, filters.shape[-1])


def _by_products(x: jax.Array, filters: jax.Array, stride: int, padding: int) -> jax.Array:
    """A sum of matrix products, one for each tap: their gradients are matrix products, too."""
    taps = filters.reshape(-1, *filters.shape[2:])
    products = [image @ tap for image, tap in zip(_taps(x, filters, stride, padding), taps, strict=True)]
    return sum(products[1:], products[0])


CONVOLUTIONS: dict[str, Convolve] = {
    "convolution": _by_convolution,
    "patches": _by_patches,
    "products": _by_products,
}


class Convolution:
    """One call; gradients are those that JAX derives."""

    def __init__(self, workload: Workload, way: str) -> None:
        shape = ConvShape.parse(workload.shape)
        x, filters, grad_y = (jnp.array(array) for array in convolution(shape))
        convolve = partial(CONVOLUTIONS[way], stride=shape.sh, padding=shape.ph)
        calls: dict[str, Callable[[Any, Any, Any], jax.Array]] = {
            "conv-forward": lambda x, filters, grad_y: convolve(x, filters),
            "conv-input": lambda x, filters, grad_y: jax.vjp(lambda x: convolve(x, filters), x)[1](grad_y)[0],
            "conv-filter": lambda x, filters, grad_y: jax.vjp(lambda w: convolve(x, w), filters)[1](grad_y)[0],
        }
        self._call, self._arguments = jax.jit(calls[workload.kind]), (x, filters, grad_y)

    def run(self) -> None:
        self._result = self._call(*self._arguments).block_until_ready()

    def outcome(self) -> dict[str, Array]:
        return {"result": np.asarray(self._result)}


def logits(network: Network, convolve: Convolve, weights: Weights, x: jax.Array, key: Any = None) -> jax.Array:
    """What the network gives for images (N, 28, 28, 1); dropout only with a key."""
    rest = iter(weights)
    for number, layer in enumerate(network.layers):
        if isinstance(layer, networks.Conv):
            x = convolve(x, next(rest), 1, 0) + next(rest)
        elif isinstance(layer, networks.Pool):
            n, height, width, channels = x.shape
            x = x[:, : height // 2 * 2, : width // 2 * 2].reshape(n, height // 2, 2, width // 2, 2, channels)
            x = x.max((2, 4))
        elif isinstance(layer, networks.Relu):
            x = jax.nn.relu(x)
        elif isinstance(layer, networks.Dropout):
            if key is not None:
                kept = jax.random.bernoulli(jax.random.fold_in(key, number), 1 - layer.rate, x.shape)
                x = jnp.where(kept, x / (1 - layer.rate), 0)
        elif isinstance(layer, networks.Flatten):
            x = x.reshape(len(x), -1)
        else:
            x = x @ next(rest) + next(rest)
    return x


def task(workload: Workload, way: str, batch_size: int, samples: int, problem: Problem) -> Task:
    """The work on the first `samples` images, their pixels already as the network sees them."""
    network = network_of(workload)
    if workload.trains:
        images, labels = network.scaled(problem.images[:samples]), problem.labels[:samples].astype(np.int32)
        return Training(network, CONVOLUTIONS[way], images, labels, workload)
    return Inference(network, CONVOLUTIONS[way], network.scaled(problem.test_images[:samples]), batch_size)


class Training:
    """A scan over all whole batches; a last short batch is a step of its own in the same program.

    The state is weights, two moments of each, the number of the step and a key of the quick generator "rbg".
    """

    def __init__(self, network: Network, convolve: Convolve, images: Array, labels: Array, workload: Workload) -> None:
        self._network, self._workload, self._images, self._labels = network, workload, images, labels
        self._batch_size, self._shuffled = workload.batch_size, workload.kind == "reach"
        self.restart(0)
        self._data = None if self._shuffled else self._cut(images, labels)
        rates = jnp.array(rates_of(network, workload))
        update = UPDATES[network.optimizer]

        def loss(weights: Weights, x: jax.Array, y: jax.Array, key: Any) -> jax.Array:
            scores = jax.nn.log_softmax(logits(network, convolve, weights, x, key))
            return -jnp.take_along_axis(scores, y[:, None], 1).mean()

        def step(state: Any, batch: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
            weights, moments, number, key = state
            here = jax.random.fold_in(jax.random.wrap_key_data(key, impl="rbg"), number)
            gradients = jax.grad(loss)(weights, *batch, here)
            rate = rates[jnp.minimum(number, len(rates) - 1)]
            changed = [update(*each, rate, number + 1) for each in zip(weights, gradients, *moments, strict=True)]
            weights, *moments = (list(column) for column in zip(*changed, strict=True))
            return (weights, moments, number + 1, key), None

        @partial(jax.jit, donate_argnums=0)
        def epoch(state: Any, batches: Any, rest: Any) -> Any:
            state, _ = lax.scan(step, state, batches)
            return step(state, rest)[0] if len(rest[0]) else state

        self._epoch = epoch

    def restart(self, seed: int) -> None:
        weights = [jnp.array(array) for array in self._network.weights(seed)]
        moments = [jax.tree.map(jnp.zeros_like, weights) for _ in range(2)]
        key = jax.random.key_data(jax.random.key(seed, impl="rbg"))
        self._state: Any = (weights, moments, jnp.zeros((), jnp.int32), key)
        self._orders = orders(self._workload, len(self._images), seed)

    def _cut(self, images: Array, labels: Array) -> Any:
        whole = len(images) // self._batch_size * self._batch_size
        shape = (-1, self._batch_size, *images.shape[1:])
        batches = jnp.array(images[:whole].reshape(shape)), jnp.array(labels[:whole].reshape(shape[:2]))
        return batches, (jnp.array(images[whole:]), jnp.array(labels[whole:]))

    def run(self) -> None:
        data = self._data
        if data is None:
            order = next(self._orders)
            data = self._cut(self._images[order], self._labels[order])
        self._state = jax.block_until_ready(self._epoch(self._state, *data))

    def outcome(self) -> dict[str, Array]:
        return named(np.asarray(array) for array in self._state[0])


def _adadelta(w: Any, g: Any, squares: Any, changes: Any, rate: Any, step: Any) -> tuple[Any, Any, Any]:
    squares = networks.RHO * squares + (1 - networks.RHO) * g * g
    change = g * jnp.sqrt(changes + networks.EPSILON) * lax.rsqrt(squares + networks.EPSILON)
    return w - rate * change, squares, networks.RHO * changes + (1 - networks.RHO) * change * change


def _adam(w: Any, g: Any, mean: Any, square: Any, rate: Any, step: Any) -> tuple[Any, Any, Any]:
    mean = networks.BETA_1 * mean + (1 - networks.BETA_1) * g
    square = networks.BETA_2 * square + (1 - networks.BETA_2) * g * g
    rate = rate * jnp.sqrt(1 - networks.BETA_2**step) / (1 - networks.BETA_1**step)
    return w - rate * mean / (jnp.sqrt(square) + networks.EPSILON), mean, square


#: Optimizer -> (weights, gradient, its two moments, learning rate, step from 1) -> weights and moments after it.
UPDATES = {"adadelta": _adadelta, "adam": _adam}


class Inference:
    """A call for each batch."""

    def __init__(self, network: Network, convolve: Convolve, images: Array, batch_size: int) -> None:
        self._weights = [jnp.array(array) for array in network.weights()]
        self._batches = [jnp.array(images[i : i + batch_size]) for i in range(0, len(images), batch_size)]
        self._predict = jax.jit(lambda weights, x: jax.nn.softmax(logits(network, convolve, weights, x)))
        self._outputs: list[jax.Array] = []

    def run(self) -> None:
        one_a_call = len(self._batches[0]) == 1
        self._outputs = []
        for x in self._batches:
            y = self._predict(self._weights, x)
            self._outputs.append(y.block_until_ready() if one_a_call else y)
        jax.block_until_ready(self._outputs)

    def outcome(self) -> dict[str, Array]:
        return {"probabilities": np.concatenate(self._outputs)}
