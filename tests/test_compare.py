"""`compare` passes what rounding explains, and nothing more."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastcnn import backends, compare
from fastcnn.backends.numba.fused import FusedNetwork
from fastcnn.compare import Row, rounding
from fastcnn.datasets import mnist
from fastcnn.errors import ArgumentError

IMAGES, LABELS = mnist.test_images()[:300], mnist.test_labels()[:300]


def exceeded(comparison: compare.Comparison) -> set[tuple[str, str]]:
    return {(row.name, row.quantity) for row in comparison.layers if not row.ok}


def test_the_fast_path_is_within_the_bounds() -> None:
    steps: list[tuple[int, int]] = []
    result = compare.compare(IMAGES, LABELS, 4, on_step=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert result.ok
    assert exceeded(result) == set()
    for row in result.layers:
        assert 0 < row.max_abs_diff <= row.bound, row
    assert set(result.seconds_per_step) == set(backends.BACKENDS)
    assert all(seconds > 0 for seconds in result.seconds_per_step.values())


def test_the_json_has_the_promised_form() -> None:
    content = json.loads(json.dumps(compare.compare(IMAGES, LABELS, 1).to_json()))
    assert set(content) == {"samples", "layers", "seconds_per_step", "ok"}
    assert content["samples"] == 1
    for row in content["layers"]:
        assert set(row) == {"name", "quantity", "max_abs_diff", "bound", "ok"}
    names = [(row["name"], row["quantity"]) for row in content["layers"]]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("shape", [(9, 12), (13, 8)])
def test_other_images_and_classes(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, *shape), dtype=np.uint8)
    images[:, :4] = 0  # flat ground: ties
    assert compare.compare(images, rng.integers(0, 3, 20), 5, seed=3).ok


def wrong(name: str, change: Callable[[Any], Any]) -> Callable[..., Any]:
    """One of the compiled operations, with an error in its result."""
    right = getattr(backends.get("numba"), name)
    return lambda *arguments: change(right(*arguments))


@pytest.mark.parametrize(
    ("operation", "change", "row"),
    [
        ("conv2d_forward", lambda y: y * np.float32(1 + 1e-4), ("conv2d", "output")),
        ("conv2d_backward", lambda g: (g[0], g[1][::-1], g[2]), ("conv2d", "filters gradient")),
        ("maxpool2d_forward", lambda y: (y[0] + np.float32(1e-5), y[1]), ("max_pooling2d", "output")),
        ("maxpool2d_backward", lambda g: g * np.float32(1.01), ("max_pooling2d", "input gradient")),
        ("dense_forward", lambda y: y + np.float32(1e-3), ("dense", "output")),
        ("dense_backward", lambda g: (g[0] * 1.01, g[1], g[2]), ("dense", "input gradient")),
        ("dense_backward", lambda g: (g[0], g[1] * 1.01, g[2]), ("dense", "weights gradient")),
        ("dense_backward", lambda g: (g[0], g[1], g[2] * 1.01), ("dense", "bias gradient")),
        ("softmax_cross_entropy", lambda s: (s[0] * 1.001, s[1], s[2]), ("softmax", "loss")),
        ("softmax_cross_entropy", lambda s: (s[0], s[1] * 1.001, s[2]), ("softmax", "probabilities")),
        ("softmax_cross_entropy", lambda s: (s[0], s[1], s[2] * 1.001), ("softmax", "input gradient")),
        ("softmax_cross_entropy", lambda s: (s[0] * np.nan, s[1], s[2]), ("softmax", "loss")),
    ],
)
def test_an_error_of_an_operation_is_seen(
    operation: str, change: Callable[[Any], Any], row: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends.get("numba"), operation, wrong(operation, change))
    result = compare.compare(IMAGES, LABELS, 1)
    assert not result.ok
    assert row in exceeded(result)
    for found in result.layers:
        assert found.ok == (found.max_abs_diff <= found.bound)


@pytest.mark.parametrize(
    ("sabotage", "rows"),
    [
        ({"rate": 1.01}, {("conv2d", "filters"), ("dense", "weights"), ("dense", "bias")}),
        ({"ties": "first"}, {("conv2d", "filters")}),
        ({"train_conv": False}, {("conv2d", "filters")}),
        ({"offset": -0.49}, {("conv2d", "filters"), ("dense", "weights")}),
    ],
)
def test_an_error_of_the_fused_kernel_is_seen(
    sabotage: dict[str, Any], rows: set[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(FusedNetwork):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **(options | {k: v for k, v in sabotage.items() if k != "rate"}))

        def train(self, images: Any, labels: Any, order: Any, learning_rate: float, batch_size: int) -> Any:
            return super().train(images, labels, order, learning_rate * sabotage.get("rate", 1.0), batch_size)

    monkeypatch.setattr("fastcnn.backends.numba.fused.FusedNetwork", Wrong)
    result = compare.compare(IMAGES, LABELS, 3)
    assert rows <= exceeded(result)
    assert rows <= {(name, quantity.removesuffix(" after 3 steps")) for name, quantity in exceeded(result)}


def test_two_elements_that_tie_by_rounding_may_win_either_way() -> None:
    """A window whose rivals see different pixels but have nearly equal sums has an uncertain gradient."""
    images = np.zeros((1, 6, 6, 1))
    images[0, 1, 1, 0], images[0, 1, 2, 0] = 0.5, 0.5 + 1e-9
    net = rounding.Weights(np.ones((3, 3, 1, 1)) / 9, np.ones((4, 2)), np.zeros(2))
    net.weights[:, 1] = -1.0
    net.filters[1, 1] = 0.5
    truth = rounding.step(backends.get("reference"), images, np.array([0]), net, 0.1)
    bound = rounding.step_bounds(truth, images, 0.0, net, 0.1)
    window = truth.conv[0, :2, :2, 0]
    assert 0 < abs(window[0, 0] - window[0, 1]) < bound.conv[0, :2, :2, 0].max()
    gradient = np.abs(truth.grad_pool[0, 0, 0, 0])
    assert (bound.grad_conv[0, 0, :2, 0] >= gradient).all()
    assert (bound.grad_conv[0, 1, :2, 0] < 1e-5 * gradient).all()
    # The last window sees nothing but ground: an exact tie, of which all must win.
    assert (bound.grad_conv[0, 2:, 2:, 0] < 1e-5 * np.abs(truth.grad_pool[0, 1, 1, 0])).all()
    assert (truth.grad_conv[0, 3, 3, 0] == truth.grad_pool[0, 1, 1, 0]).all()


def test_a_row_keeps_the_worst_that_it_saw() -> None:
    row = Row("layer", "quantity")
    row.add(np.zeros(2), np.array([0.1, 0.3]), np.array([1.0, 0.4]))
    assert (row.max_abs_diff, row.bound, row.ok) == (0.3, 0.4, True)
    row.add(np.zeros(2), np.array([0.2, 0.1]), np.array([0.1, 0.4]))
    assert (row.max_abs_diff, row.bound, row.ok) == (0.2, 0.1, False)
    row.add(np.zeros(2), np.array([0.9, 0.1]), np.array([1.0, 0.4]))
    assert (row.max_abs_diff, row.bound, row.ok) == (0.2, 0.1, False)
    row.add(np.zeros(2), np.array([np.nan, 0.1]), np.array([1.0, 0.4]))
    assert (row.max_abs_diff, row.bound, row.ok) == (np.inf, 1.0, False)


@pytest.mark.parametrize("samples", [0, -1, 301, 1.5])
def test_the_number_of_samples_is_checked(samples: Any) -> None:
    with pytest.raises(ArgumentError, match="samples="):
        compare.compare(IMAGES, LABELS, samples)
