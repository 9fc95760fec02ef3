"""Holds the fast path against the loops: the tutorial's network trained by both, step by step, layer by
layer.

Every step begins at one set of weights. From there the reference (plain loops, float64) computes the step,
and so do the compiled operations one after another and the fused kernel, both in float32. What they differ by
must be rounding and nothing else, and `fastcnn.compare.rounding` computes how much that can be.

The last rows compare the weights after all steps, when the reference has gone its own way from the start.
Their bound is the sum over the steps of each one's greatest bound. That assumes that a step of gradient
descent does not magnify the difference that it finds, which holds at learning rates small enough to learn.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcnn import arguments, backends, recipes
from fastcnn.compare.rounding import TIES, Step, Weights, step, step_bounds
from fastcnn.errors import ArgumentError
from fastcnn.layers import Rescaling

Array = NDArray[Any]

#: Images in one timed call of the fused kernel, and how many calls.
TIMED_STEPS, TIMED_CALLS = 2000, 5

#: What is compared in every step: the layer, the quantity, where it stands in `Step`.
QUANTITIES: tuple[tuple[str, str, Callable[[Step], Array]], ...] = (
    ("conv2d", "output", lambda s: s.conv),
    ("conv2d", "filters gradient", lambda s: s.grad_filters),
    ("max_pooling2d", "output", lambda s: s.pool),
    ("max_pooling2d", "input gradient", lambda s: s.grad_conv),
    ("dense", "output", lambda s: s.logits),
    ("dense", "input gradient", lambda s: s.grad_pool),
    ("dense", "weights gradient", lambda s: s.grad_weights),
    ("dense", "bias gradient", lambda s: s.grad_bias),
    ("softmax", "probabilities", lambda s: s.probabilities),
    ("softmax", "loss", lambda s: s.losses),
    ("softmax", "input gradient", lambda s: s.grad_logits),
)
#: The same for what the fused kernel leaves behind.
UPDATED = (("conv2d", "filters"), ("dense", "weights"), ("dense", "bias"))


@dataclass
class Row:
    """The greatest difference found in one quantity of one layer.

    Attributes:
        name: the layer.
        quantity: what of it.
        max_abs_diff: the greatest difference of one number; of those outside their bounds, where there are
            any.
        bound: the bound for that number.
        ok: whether every number of every step lies inside its bound.
    """

    name: str
    quantity: str
    max_abs_diff: float = 0.0
    bound: float = 0.0
    ok: bool = True

    def add(self, truth: Array, found: Array, bound: Array) -> None:
        """Take in the arrays of one step."""
        difference = np.abs(truth - np.asarray(found, np.float64))
        outside = ~(difference <= bound)  # a NaN is outside
        ok = not outside.any()
        if ok and not self.ok:
            return
        difference = np.nan_to_num(np.where(ok | outside, difference, 0.0), nan=np.inf)
        worst = np.unravel_index(np.argmax(difference), difference.shape)
        if ok != self.ok or difference[worst] >= self.max_abs_diff:
            self.max_abs_diff = float(difference[worst])
            self.bound = float(np.broadcast_to(bound, difference.shape)[worst])
        self.ok = ok


@dataclass
class Comparison:
    """What `compare` found.

    Attributes:
        samples: steps of training.
        layers: one row for each quantity of each layer.
        seconds_per_step: the median step on each rung, without compiling.
        ok: whether all rows are inside their bounds.
    """

    samples: int
    layers: list[Row]
    seconds_per_step: dict[str, float]
    ok: bool

    def to_json(self) -> dict[str, Any]:
        """The same as plain lists and dictionaries."""
        return asdict(self)


@dataclass
class Problem:
    """A network and images to train it on: all that every rung starts from."""

    images: Array  # uint8 (N, H, W, 1)
    labels: Array  # int64 (N,)
    order: Array  # int64 (N,)
    start: Weights  # float32
    scale: float
    offset: float
    learning_rate: float

    def fused(self) -> Any:
        """The fused network at the start."""
        from fastcnn.backends.numba.fused import FusedNetwork

        return FusedNetwork(
            self.images.shape[1:], self.start.filters, None, self.start.weights, self.start.bias,
            scale=self.scale, offset=self.offset, ties=TIES,
        )  # fmt: skip

    def train(self, network: Any, order: Array) -> None:
        """Per-sample SGD in the fused kernel."""
        network.train(self.images, self.labels, order, self.learning_rate, 1)

    def step(self, backend: str, index: int, net: Weights) -> Step:
        """One step on image `index`, in the backend's own number type."""
        ops = backends.get(backend)
        x = self.scaled(index).astype(ops.DTYPE)
        return step(ops, x, self.labels[index : index + 1], net.cast(ops.DTYPE), self.learning_rate)

    def scaled(self, index: int) -> Array:
        """Image `index` in float64, (1, H, W, 1), as the network sees it."""
        return self.images[index : index + 1] * self.scale + self.offset


def compare(
    images: NDArray[np.uint8],
    labels: NDArray[Any],
    samples: int = 20,
    seed: int = 0,
    on_step: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Train the tutorial's network on the reference and on the fast path, and compare all that they compute.

    Args:
        images: (N, H, W).
        labels: (N,), from 0 to the number of classes - 1.
        samples: how many steps of training, one image each. The loops take a tenth of a second or two for
            one.
        seed: chooses the images and the first weights.
        on_step: called after every step with the steps done and `samples`.

    Raises:
        ArgumentError: samples is not a whole number from 1 to N.
    """
    samples = arguments.integer("samples", samples)
    if samples > len(images):
        raise ArgumentError(f"samples={samples}: expected at most {len(images)}, the number of images")
    problem = _problem(images, labels, seed)
    order = problem.order[:samples]
    rows = [Row(name, quantity) for name, quantity, _ in QUANTITIES]
    updated = [Row(name, quantity) for name, quantity in UPDATED]
    final = [Row(name, f"{quantity} after {samples} steps") for name, quantity in UPDATED]
    final_bounds = [0.0] * len(final)

    stepping, own = problem.fused(), problem.start
    seconds: dict[str, list[float]] = {"reference": [], "im2col": [], "numba": []}
    for done, index in enumerate(order, start=1):
        before = _weights(stepping).cast(np.float64)
        problem.train(stepping, order[done - 1 : done])
        truth = problem.step("reference", index, before)
        about = truth, problem.scaled(index), problem.offset, before, problem.learning_rate
        bound, fused_bound = step_bounds(*about), step_bounds(*about, fused=True)
        found = problem.step("numba", index, before)
        for row, (_, _, pick) in zip(rows, QUANTITIES, strict=True):
            row.add(pick(truth), pick(found), pick(bound))
        for i, fused in enumerate(_weights(stepping)):
            updated[i].add(truth.after[i], fused, fused_bound.after[i])
            final_bounds[i] += float(fused_bound.after[i].max())

        begun = time.perf_counter()
        own = problem.step("reference", index, own).after
        seconds["reference"].append(time.perf_counter() - begun)
        begun = time.perf_counter()
        problem.step("im2col", index, before)
        seconds["im2col"].append(time.perf_counter() - begun)
        if on_step is not None:
            on_step(done, samples)

    whole = problem.fused()
    problem.train(whole, order)
    for row, truth_, found_, bound_ in zip(final, own, _weights(whole), final_bounds, strict=True):
        row.add(truth_, found_, np.asarray(bound_))

    timed = problem.order[:TIMED_STEPS]
    for _ in range(TIMED_CALLS):
        network = problem.fused()
        begun = time.perf_counter()
        problem.train(network, timed)
        seconds["numba"].append((time.perf_counter() - begun) / len(timed))

    names = list(dict.fromkeys(row.name for row in rows))
    layers = sorted([*rows, *updated], key=lambda row: names.index(row.name)) + final
    medians = {rung: statistics.median(values) for rung, values in seconds.items()}
    return Comparison(samples, layers, medians, all(row.ok for row in layers))


def _problem(images: NDArray[np.uint8], labels: NDArray[Any], seed: int) -> Problem:
    """The tutorial's recipe on these images."""
    images = np.ascontiguousarray(images)[..., None]
    recipe = recipes.RECIPES["blog"]
    model = recipes.build_model(recipe, images.shape[1:], int(labels.max()) + 1, seed=seed, backend="numba")
    rescaling = next(layer for layer in model.layers if isinstance(layer, Rescaling))
    return Problem(
        images=images,
        labels=labels.astype(np.int64),
        order=np.random.default_rng(seed).permutation(len(images)),
        start=Weights(*model.get_weights()).cast(np.float32),
        scale=rescaling.scale,
        offset=rescaling.offset,
        learning_rate=recipe.learning_rate,
    )


def _weights(network: Any) -> Weights:
    filters, _, weights, bias = network.weights()
    return Weights(filters, weights, bias)
