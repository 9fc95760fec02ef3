"""The fused tutorial network against the same network spelt out in numpy, in float64, for all its shapes."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from fastcnn.backends import im2col
from fastcnn.backends.numba.fused import FusedNetwork
from fastcnn.backends.numba.fused.batch import chunks_of


class Plain:
    """The same network and the same SGD, one operation after the other, in float64."""

    def __init__(self, filters, conv_bias, weights, bias, scale, offset, ties, train_conv):
        self.filters, self.weights, self.bias = filters.copy(), weights.copy(), bias.copy()
        self.conv_bias = None if conv_bias is None else conv_bias.copy()
        self.scale, self.offset, self.ties, self.train_conv = scale, offset, ties, train_conv

    def forward(self, images):
        self.x = images.astype(np.float64) * self.scale + self.offset
        self.convolved = im2col.conv2d_forward(self.x, self.filters, self.conv_bias)
        self.pooled, self.winners = im2col.maxpool2d_forward(self.convolved, (2, 2), self.ties)
        return im2col.dense_forward(self.pooled.reshape(len(images), -1), self.weights, self.bias)

    def step(self, images, labels, rate):
        losses, probabilities, grad = im2col.softmax_cross_entropy(self.forward(images), labels)
        rate = rate / len(images)
        flat = self.pooled.reshape(len(images), -1)
        grad_pooled, grad_weights, grad_bias = im2col.dense_backward(grad, flat, self.weights)
        if self.train_conv:
            grad_pooled = grad_pooled.reshape(self.pooled.shape)
            grad_conv = im2col.maxpool2d_backward(grad_pooled, self.winners, self.convolved.shape, (2, 2))
            _, grad_filters, grad_conv_bias = im2col.conv2d_backward(grad_conv, self.x, self.filters)
            self.filters -= rate * grad_filters
            if self.conv_bias is not None:
                self.conv_bias -= rate * grad_conv_bias
        self.weights -= rate * grad_weights
        self.bias -= rate * grad_bias
        return losses.sum(), int((probabilities.argmax(axis=1) == labels).sum())


def both(seed, image_shape, kernel, filters, classes, *, bias, ties, train_conv=True, pixel=np.uint8, scale=1 / 256):
    """The fused and the plain network from the same start, and data of 70 images with flat regions (so, with ties)."""
    rng = np.random.default_rng(seed)
    height, width, channels = image_shape
    pooled = ((height - kernel[0] + 1) // 2) * ((width - kernel[1] + 1) // 2)
    # The starting values are float32 numbers, so that both begin at exactly the same place.
    start = [
        rng.normal(size=(*kernel, channels, filters), scale=0.3).astype(np.float32),
        rng.normal(size=filters, scale=0.1).astype(np.float32) if bias else None,
        rng.normal(size=(pooled * filters, classes), scale=0.1).astype(np.float32),
        rng.normal(size=classes, scale=0.1).astype(np.float32),
    ]
    offset = -0.5  # with a scale of 1 / 256, a pixel is the same number in float32 and float64
    fused = FusedNetwork(image_shape, *start, scale=scale, offset=offset, ties=ties, train_conv=train_conv)
    wide = [None if values is None else values.astype(np.float64) for values in start]
    plain = Plain(*wide, scale, offset, ties, train_conv)
    images = rng.integers(0, 256, (70, *image_shape)).astype(np.uint8)
    images[:, : height // 2] = 0
    images[:, :, width // 2 + 1 :] *= rng.integers(0, 2, (70, 1, 1, 1), dtype=np.uint8)
    return fused, plain, images.astype(pixel), rng.integers(0, classes, 70)


def assert_same_weights(fused, plain, tolerance=1e-4):
    for name, got, want in zip(
        ("filters", "conv_bias", "weights", "bias"),
        fused.weights(),
        (plain.filters, plain.conv_bias, plain.weights, plain.bias),
        strict=True,
    ):
        if want is None:
            assert got is None
        else:
            assert got.shape == want.shape
            assert np.abs(got - want).max() <= tolerance * np.abs(want).max(), name


SHAPES = {
    "tutorial": ((28, 28, 1), (3, 3), 8, 10),
    "odd-sized": ((13, 17, 1), (3, 3), 3, 4),
    "wider-than-two-vectors": ((9, 75, 1), (3, 3), 2, 3),
    "one-window": ((4, 4, 1), (3, 3), 5, 2),
    "one-pixel-kernel": ((6, 7, 1), (1, 1), 2, 3),
    "even-kernel": ((12, 11, 1), (4, 2), 3, 5),
    "wide-kernel": ((8, 14, 1), (2, 7), 3, 5),
    "large-kernel": ((20, 20, 1), (5, 5), 6, 10),
    "colour": ((10, 12, 3), (3, 3), 4, 10),
    "eleven-classes": ((10, 10, 1), (3, 3), 4, 11),
    "forty-seven-classes": ((14, 14, 2), (3, 5), 3, 47),
    "one-filter-one-class-too-few": ((10, 10, 1), (3, 3), 1, 9),
}


@pytest.mark.parametrize("ties", ["first", "all"])
@pytest.mark.parametrize("batch_size", [1, 7, 32, 70])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_lands_where_the_plain_network_lands(shape, batch_size, ties):
    fused, plain, images, labels = both(1, *shape, bias=batch_size != 7, ties=ties)
    order = np.random.default_rng(2).permutation(70)
    loss = correct = 0
    for start in range(0, 70, batch_size):
        batch = order[start : start + batch_size]
        one_loss, one_correct = plain.step(images[batch], labels[batch], 0.05)
        loss, correct = loss + one_loss, correct + one_correct
    got_loss, got_correct, done = fused.train(images, labels, order, 0.05, batch_size)
    assert done == 70
    assert got_loss == pytest.approx(loss, rel=1e-4)
    assert got_correct == correct
    assert_same_weights(fused, plain)


PATTERNS = {
    "rows": lambda i, j: i,
    "columns": lambda i, j: j,
    "diagonals": lambda i, j: i - j + 28,
    "other-diagonals": lambda i, j: i + j,
}


@pytest.mark.parametrize("ties", ["first", "all"])
@pytest.mark.parametrize("batch_size", [1, 16])
@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS.keys())
def test_ties_of_equal_pixels_are_kept(pattern, batch_size, ties):
    """Stripes tie two or four outputs of each window, whose sums see the same pixels. One lost tie would cost a
    window's whole gradient, far more than the tolerance."""
    fused, plain, _, labels = both(10, *SHAPES["tutorial"], bias=False, ties=ties, scale=1 / 255)
    profiles = np.random.default_rng(11).integers(0, 256, (70, 60)).astype(np.uint8)
    images = profiles[:, pattern(*np.indices((28, 28)))][..., np.newaxis]
    for start in range(0, 70, batch_size):
        plain.step(images[start : start + batch_size], labels[start : start + batch_size], 0.01)
    fused.train(images, labels, np.arange(70), 0.01, batch_size)
    assert_same_weights(fused, plain, 2e-6)


def dot(images):
    flat = np.full_like(images, 30)
    flat[:, 5, 4] = 90
    return flat


BACKGROUNDS = {
    "all-flat": lambda images: np.full_like(images, 30),
    "one-dot": dot,
    "light": lambda images: 255 - images,
    "nothing-flat": lambda images: np.random.default_rng(13).integers(0, 256, images.shape).astype(np.uint8),
}


@pytest.mark.parametrize("ties", ["first", "all"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batch_size", [1, 16])
@pytest.mark.parametrize("shape", ["tutorial", "eleven-classes"])  # the latter's windows fill vectors to the last lane
@pytest.mark.parametrize("background", BACKGROUNDS.values(), ids=BACKGROUNDS.keys())
def test_flat_windows_teach_as_others_do(background, shape, batch_size, bias, ties):
    """Windows that show nothing but the background are computed once: whether they are all, some or none."""
    fused, plain, images, labels = both(12, *SHAPES[shape], bias=bias, ties=ties)
    images = background(images)
    for start in range(0, 70, batch_size):
        plain.step(images[start : start + batch_size], labels[start : start + batch_size], 0.01)
    fused.train(images, labels, np.arange(70), 0.01, batch_size)
    assert_same_weights(fused, plain, 1e-5)
    want = im2col.softmax_cross_entropy(plain.forward(images), labels)[1]
    assert np.allclose(fused.predict(images), want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 16])
def test_a_frozen_convolution_stays(batch_size):
    fused, plain, images, labels = both(3, *SHAPES["tutorial"], bias=True, ties="all", train_conv=False)
    for start in range(0, 70, batch_size):
        plain.step(images[start : start + batch_size], labels[start : start + batch_size], 0.05)
    fused.train(images, labels, np.arange(70), 0.05, batch_size)
    assert_same_weights(fused, plain)
    assert np.array_equal(fused.weights()[0], plain.filters)


@pytest.mark.parametrize("batch_size", [1, 16])
def test_bytes_and_floats_are_learnt_alike(batch_size):
    """The same pixels as uint8 and as float32 take the same steps, to the last bit."""
    results = []
    for pixel in (np.uint8, np.float32):
        fused, _, images, labels = both(4, *SHAPES["tutorial"], bias=True, ties="first", pixel=pixel)
        fused.train(images, labels, np.arange(70), 0.05, batch_size)
        results.append(fused.weights())
    for one, two in zip(*results, strict=True):
        assert np.array_equal(one, two)


@pytest.mark.parametrize("ties", ["first", "all"])
def test_every_weight_moves(ties):
    fused, _, images, labels = both(5, *SHAPES["tutorial"], bias=True, ties=ties)
    before = fused.weights()
    fused.train(images, labels, np.arange(70), 0.05, 1)
    for one, two in zip(before, fused.weights(), strict=True):
        assert np.all(one != two)


@pytest.mark.parametrize("batch_size", [1, 10, 64])
def test_calls_continue_where_the_last_one_stopped(batch_size):
    """Training in pieces (for a progress bar) is training in one go."""
    order = np.arange(70)
    whole, _, images, labels = both(6, *SHAPES["tutorial"], bias=True, ties="all")
    parts, _, _, _ = both(6, *SHAPES["tutorial"], bias=True, ties="all")
    whole.train(images, labels, order, 0.05, batch_size)
    piece = max(2, batch_size)  # single steps are taken in pairs, and only even pieces keep the pairs
    for start in range(0, 70, piece):
        parts.train(images, labels, order[start : start + piece], 0.05, batch_size)
    for one, two in zip(whole.weights(), parts.weights(), strict=True):
        assert np.array_equal(one, two)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads")
@pytest.mark.parametrize("batch_size", [1, 30, 64])
def test_the_number_of_threads_changes_nothing(batch_size):
    results = []
    before = numba.get_num_threads()
    try:
        for threads in (1, 2):
            numba.set_num_threads(threads)
            fused, _, images, labels = both(7, *SHAPES["tutorial"], bias=True, ties="all")
            figures = fused.train(images, labels, np.arange(70), 0.05, batch_size)
            many = np.concatenate([images] * 9)
            results.append((*fused.weights(), fused.predict(many), np.array(figures)))
    finally:
        numba.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        assert np.array_equal(one, two)


@pytest.mark.parametrize("batch_size", [20, 40, 100, 256, 270])
def test_the_number_of_tasks_changes_nothing(batch_size, monkeypatch):
    """Chunks are added in the same pairs whoever adds them: in one task, or where several tasks have met."""
    results = []
    for tasks in (1, 2, 3, 4, 5, 8):
        monkeypatch.setattr(numba, "get_num_threads", lambda tasks=tasks: tasks)
        fused, plain, images, labels = both(12, *SHAPES["tutorial"], bias=True, ties="all")
        order = np.arange(270) % 70
        figures = fused.train(images, labels, order, 0.05, batch_size)
        results.append((*fused.weights(), np.array(figures)))
    for start in range(0, 270, batch_size):
        batch = order[start : start + batch_size]
        plain.step(images[batch], labels[batch], 0.05)
    assert_same_weights(fused, plain)
    for result in results[1:]:
        for one, two in zip(results[0], result, strict=True):
            assert np.array_equal(one, two)


@pytest.mark.parametrize(("samples", "chunks"), [(1, 1), (16, 1), (17, 2), (64, 2), (128, 4), (256, 8), (4096, 16)])
def test_how_many_threads_can_share_a_batch(samples, chunks):
    assert chunks_of(samples) == chunks


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_predicts_and_evaluates_as_the_plain_network(shape):
    fused, plain, images, labels = both(8, *shape, bias=True, ties="first")
    losses, probabilities, _ = im2col.softmax_cross_entropy(plain.forward(images), labels)
    for count in (1, 16, 17, 70):
        assert np.allclose(fused.predict(images[:count]), probabilities[:count], rtol=1e-4, atol=1e-6)
        loss, correct = fused.evaluate(images[:count], labels[:count])
        assert loss == pytest.approx(losses[:count].sum(), rel=1e-4)
        assert correct == (probabilities[:count].argmax(axis=1) == labels[:count]).sum()


@pytest.mark.parametrize("batch_size", [1, 16])
def test_a_diverged_loss_stops_training_before_its_batch(batch_size):
    fused, _, images, labels = both(9, *SHAPES["tutorial"], bias=True, ties="all", pixel=np.float32)
    images[40] = np.inf
    reference, _, _, _ = both(9, *SHAPES["tutorial"], bias=True, ties="all")
    before = 40 // batch_size * batch_size
    _, _, done = fused.train(images, labels, np.arange(70), 0.05, batch_size)
    reference.train(images, labels, np.arange(before), 0.05, batch_size)
    assert done == 40
    for one, two in zip(fused.weights(), reference.weights(), strict=True):
        assert np.array_equal(one, two)
