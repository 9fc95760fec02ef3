"""Dense products that skip zeros: the same numbers, bit for bit, as those that don't."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from fastcnn.backends.numba import dense, dense_lists
from fastcnn.backends.numba.packing import Workspace

#: Samples, inputs, units.
SHAPES = [(256, 800, 256), (48, 97, 33), (17, 16, 5), (64, 300, 70), (16, 129, 256)]


def sparse(rng, shape, density):
    return (rng.standard_normal(shape) * (rng.random(shape) < density)).astype(np.float32)


def products(shape, density):
    """All three products of a dense layer whose input and gradient have that share of numbers other than zero."""
    samples, inputs, units = shape
    rng, work = np.random.default_rng(inputs), Workspace()
    x, weights = sparse(rng, (samples, inputs), density), sparse(rng, (inputs, units), 1.0)
    bias, grad_y = sparse(rng, units, 1.0), sparse(rng, (samples, units), density)
    y = dense.forward(x, weights, bias, work, least=0.0)
    return [y.copy(), *(a.copy() for a in dense.backward(grad_y, x, weights, True, work))]


@pytest.fixture
def listed(monkeypatch):
    """Lists are made for the smallest products; what is returned has an entry for each."""
    found, lists_of = [], dense_lists.lists_of

    def counted(*arguments):
        lists = lists_of(*arguments)
        found.append(lists is not None)
        return lists

    monkeypatch.setattr(dense_lists, "_PRODUCTS", 0)
    monkeypatch.setattr(dense, "lists_of", counted)
    return found


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("density", [0.0, 0.05, 0.3])
def test_skipping_zeros_changes_nothing(shape, density, listed, monkeypatch):
    skipping = products(shape, density)
    assert any(listed)
    monkeypatch.setattr(dense, "lists_of", lambda *arguments: None)
    for some, others in zip(skipping, products(shape, density), strict=True):
        np.testing.assert_array_equal(some, others)


def test_the_threads_change_nothing(listed):
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone = products(SHAPES[0], 0.2)
    finally:
        numba.set_num_threads(threads)
    assert all(listed)
    for some, others in zip(alone, products(SHAPES[0], 0.2), strict=True):
        np.testing.assert_array_equal(some, others)


@pytest.mark.parametrize("wrong", [np.inf, np.nan])
def test_zero_times_infinity_is_seen(wrong, listed):
    x, weights = np.zeros((32, 64), np.float32), np.ones((64, 40), np.float32)
    weights[3, 4] = wrong
    y = dense.forward(x, weights, None, Workspace())
    assert listed == [True]
    assert np.isnan(y[:, 4]).all()
    assert not np.delete(y, 4, axis=1).any()


def test_full_matrices_are_not_listed(listed):
    products(SHAPES[0], 1.0)
    assert not any(listed)
