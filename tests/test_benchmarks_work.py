"""What the benchmarks let everybody compute: shapes, networks, and fastcnn's side of them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # `benchmarks` is not installed

from benchmarks import kernels, limits
from benchmarks.judging import Judge
from benchmarks.peers import problem
from benchmarks.peers.engines import im2col, in_batches, ours, ours_deep
from benchmarks.peers.networks import NETWORKS, Conv, Dropout
from benchmarks.peers.shapes import DEEPBENCH, OURS, ConvShape
from benchmarks.peers.workloads import GROUPS, WORKLOADS, workloads_of
from fastcnn import backends, recipes
from fastcnn.backends import reference
from fastcnn.layers import Layer
from fastcnn.optimizers import Optimizer
from fastcnn.optimizers.schedules import OneCycle

PROBLEM = problem.make(
    np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8),
    np.arange(40) % 10,
    np.random.default_rng(1).integers(0, 256, (20, 28, 28), np.uint8),
)


@pytest.mark.parametrize("descriptor", [*OURS, *DEEPBENCH])
def test_descriptors_come_back_and_name_shapes_that_fit(descriptor: str) -> None:
    shape = ConvShape.parse(descriptor)
    assert shape.descriptor == descriptor
    assert shape.flop == 2 * np.prod(shape.output_shape[1:]) * np.prod(shape.filter_shape[:3])


def test_a_shape_of_uneven_strides_and_its_bytes() -> None:
    shape = ConvShape.parse("mb2ic3ih7oc5oh4kh3sh2ph1")
    assert (shape.strides, shape.padding) == ((2, 2), ((1, 1), (1, 1)))
    assert 2 * shape.bytes == 4 * (2 * 7 * 7 * 3 + 2 * 4 * 4 * 5 + 3 * 3 * 3 * 5)
    x, filters, grad_y = problem.convolution(shape)
    assert reference.conv2d_forward(x, filters, None, shape.strides, shape.padding).shape == grad_y.shape


@pytest.mark.parametrize("text", ["", "mb1", "mb1ic1ih9oc1oh9kh3", "mb1ic1ih9oc1oh7kh3xx2", "mb1ic1ih9oc1oh7kh3 "])
def test_what_is_no_shape_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected"):
        ConvShape.parse(text)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_what_fastcnn_builds(name: str) -> None:
    network = NETWORKS[name]
    model = ours_deep.model_of(network)
    shapes = [weights.shape for weights in model.get_weights()]
    assert shapes == [weights.shape for weights in network.weights()]
    images = PROBLEM.test_images
    np.testing.assert_allclose(
        model.predict(images),
        ours_deep.model_of(network.without_dropout(), backend="im2col").predict(images),
        rtol=1e-4,
        atol=1e-6,
    )
    assert not any(isinstance(layer, Dropout) for layer in network.without_dropout().layers)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_the_recipe_of_its_name(name: str) -> None:
    """Layers, optimizer, batch size, epochs: so that what is timed is what `fastcnn train` runs (but for averages)."""
    network, recipe = NETWORKS[name], recipes.get(name)
    steps = recipe.epochs * -(-60_000 // recipe.batch_size)
    built, model = recipes.build_model(name, seed=0), ours_deep.model_of(network, steps=steps)
    assert [_described(layer) for layer in model.layers] == [_described(layer) for layer in built.layers]
    assert model.optimizer is not None
    assert built.optimizer is not None
    assert _without_averages(model.optimizer) == _without_averages(built.optimizer)
    assert not model.optimizer.use_ema
    assert (network.batch_size, network.epochs) == (recipe.batch_size, recipe.epochs)


def _described(layer: Layer) -> tuple[str, dict[str, Any]]:
    return type(layer).__name__, {key: value for key, value in layer.get_config().items() if key != "name"}


def _without_averages(optimizer: Optimizer) -> dict[str, Any]:
    """Its configuration but for the averages of the weights: here, nobody averages."""
    return {key: value for key, value in optimizer.get_config().items() if not key.startswith(("use_ema", "ema_"))}


def test_the_operations_of_a_network_are_counted() -> None:
    network = replace(NETWORKS["small-convnet"], layers=(Conv(24, 5), Conv(32, 3)))
    first, second = 2 * 24 * 24 * 24 * 25, 2 * 22 * 22 * 32 * 9 * 24
    assert network.flop(training=False) == first + second
    assert network.flop(training=True) == 2 * first + 3 * second


def test_the_rates_are_those_of_one_cycle() -> None:
    schedule = OneCycle(0.01, 235, warmup_fraction=0.2)
    expected = [schedule(step) for step in range(235)]
    np.testing.assert_allclose(NETWORKS["small-convnet"].rates(235), expected, rtol=1e-5)
    assert set(NETWORKS["keras-convnet"].rates(10)) == {1.0}


@pytest.mark.parametrize("kind", ["conv-forward", "conv-input", "conv-filter"])
def test_our_convolutions_are_the_references(kind: str) -> None:
    shape = ConvShape.parse("mb2ic3ih7oc5oh4kh3sh2ph1")
    workload = replace(WORKLOADS[f"{kind}-{OURS[0]}"], shape=shape.descriptor)
    task = ours.Engine(1).task(workload, "kernel", 2, PROBLEM)
    task.run()
    x, filters, grad_y = problem.convolution(shape)
    backward = reference.conv2d_backward(grad_y, x, filters, shape.strides, shape.padding)
    forward = reference.conv2d_forward(x, filters, None, shape.strides, shape.padding)
    expected = {"conv-forward": forward, "conv-input": backward[0], "conv-filter": backward[1]}[kind]
    np.testing.assert_allclose(task.outcome()["result"], expected, rtol=1e-5, atol=1e-5)
    assert bool(im2col.Engine(1).variants(workload)) == (kind == "conv-forward")


def test_training_moves_every_weight_and_starts_again() -> None:
    workload = replace(WORKLOADS["small-convnet-to-99.25-in-4"], batch_size=20)
    task = ours_deep.task(workload, 40, PROBLEM, "numba")
    assert isinstance(task, ours_deep.Training)
    start = task.outcome()
    task.run()
    first = task.outcome()
    assert all(np.abs(first[name] - start[name]).max() > 0 for name in start)
    task.restart(1)
    for expected, found in zip(NETWORKS["small-convnet"].weights(1), task.outcome().values(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_the_judge_counts_right_answers_of_any_network() -> None:
    answers = ours_deep.model_of(NETWORKS["small-convnet"]).predict(PROBLEM.test_images).argmax(1)
    labels = np.where(np.arange(20) < 15, answers, (answers + 1) % 10)
    weights = {str(number): array for number, array in enumerate(NETWORKS["small-convnet"].weights())}
    assert Judge(PROBLEM, labels)(WORKLOADS["small-convnet-train"], weights) == 0.75
    tutorial = {"filters": PROBLEM.filters, "weights": PROBLEM.weights, "bias": PROBLEM.bias}
    answers = ours.Engine(1).model(PROBLEM, "first").predict(PROBLEM.test_images).argmax(1)
    assert Judge(PROBLEM, answers)(WORKLOADS["train-b128"], tutorial) == 1.0


def test_groups_and_names_choose_workloads() -> None:
    chosen = workloads_of(["small-convnet-train", "tutorial", "train-b1"])
    assert [one.name for one in chosen] == [*GROUPS["tutorial"], "small-convnet-train"]
    assert {name for names in GROUPS.values() for name in names} == set(WORKLOADS)
    with pytest.raises(ValueError, match="'nothing' is unknown"):
        workloads_of(["nothing"])
    assert in_batches(["eager"], WORKLOADS["keras-convnet-train"], (100,)) == ["eager"]


def test_everything_that_the_report_promises_is_there() -> None:
    """Batch sizes, both networks, every direction of at least six shapes, first and second start."""
    assert {WORKLOADS[f"train-b{size}"].batch_size for size in (1, 32, 128, 256)} == {1, 32, 128, 256}
    for kind in ("conv-forward", "conv-input", "conv-filter"):
        assert len({one.shape for one in WORKLOADS.values() if one.kind == kind}) >= 6
    assert [one.cached for one in WORKLOADS.values() if one.kind == "start"] == [False, True]


def test_every_operation_has_cases_on_every_backend() -> None:
    found = {(case.operation, backend) for case in kernels.cases() for backend in case.backends}
    assert found == {(operation, backend) for operation in backends.OPERATIONS for backend in backends.BACKENDS}


@pytest.mark.parametrize("case", [case for case in kernels.cases() if case.small], ids=lambda case: case.operation)
def test_small_cases_run_on_all_backends_alike(case: kernels.Case) -> None:
    arguments = case.make()
    expected, *others = (getattr(backends.get(backend), case.operation)(*arguments) for backend in case.backends)
    for found in others:
        for one, other in zip(_arrays(expected), _arrays(found), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    sizes = [array.nbytes for array in (*arguments, *_arrays(expected)) if isinstance(array, np.ndarray)]
    assert kernels.moved(arguments, expected) == sum(sizes)


def _arrays(results: Any) -> tuple[Any, ...]:
    return results if isinstance(results, tuple) else (results,)


def test_limits_are_measured_by_as_many_threads_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FLOATS", 1 << 12)
    monkeypatch.setattr(limits, "SECONDS", 1e-4)
    monkeypatch.setattr(limits, "SAMPLES", 2)
    limit = limits.measure(1)
    assert limit.threads == 1
    assert limit.gflop_per_second == max(limit.samples["gflop_per_second"]) > 0
    slower = replace(limit, samples={name: [value / 2 for value in values] for name, values in limit.samples.items()})
    both = slower.better(limit)
    assert (both.gflop_per_second, len(both.samples["triad_gb_per_second"])) == (limit.gflop_per_second, 4)
    assert limit.attainable(1e9) == limit.gflop_per_second
    assert limit.attainable(1e-9) == pytest.approx(limit.triad_gb_per_second * 1e-9)


def test_the_limits_kernels_compute_what_they_count() -> None:
    results = np.zeros(2, np.float32)
    limits.multiply_add(100, results)
    np.testing.assert_allclose(results, 2 * limits.CHAINS * limits.LANES)  # x / 2 + 1 tends to 2
    x = limits.aligned_zeros(1024)
    x += 1
    results[:] = 0
    limits.read(x, 3, results)
    assert results.tolist() == [3 * 512.0, 3 * 512.0]
    y = limits.aligned_zeros(1024)
    limits.triad(y, x, x, 2, 2)
    assert set(y) == {4.0}
