"""The fused plan: when it is chosen, what it is fed, and that it computes what stages and reference compute."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from small_images import bars

from fastcnn import stages, utils
from fastcnn.callbacks import Callback
from fastcnn.errors import DivergedError
from fastcnn.layers import Conv2D, Dense, Flatten, Input, MaxPooling2D, Rescaling
from fastcnn.models import Sequential
from fastcnn.optimizers import SGD
from fastcnn.stages import tutorial

X, Y = bars(60)


def layers(ties="first", *, use_bias=True, conv_learns=True, scaled=True, filters=4, kernel=3, classes=4):
    return [
        *([Rescaling(1 / 255, -0.5)] if scaled else []),
        Conv2D(filters, kernel, use_bias=use_bias, trainable=conv_learns),
        MaxPooling2D(2, ties=ties),
        Flatten(),
        Dense(classes, activation="softmax"),
    ]


def compiled(made, backend="numba", *, fused=True, optimizer=None, **options):
    model = Sequential(made, backend=backend, **{"seed": 1, **options})
    model.compile(optimizer or SGD(0.01), "sparse_categorical_crossentropy", ["accuracy"], fused=fused)
    return model


class FakeNetwork:
    """`FusedNetwork`'s face over a backend that needs no compiler. It notes what it is given."""

    made: ClassVar[list[FakeNetwork]] = []

    def __init__(self, image_shape, filters, conv_bias, weights, bias, *, scale, offset, ties, train_conv):
        self.arguments = (image_shape, scale, offset, ties, train_conv, conv_bias is not None)
        made = [
            Rescaling(scale, offset),
            Conv2D(filters.shape[3], filters.shape[:2], use_bias=conv_bias is not None),
        ]
        made += [MaxPooling2D(2, ties=ties), Flatten(), Dense(len(bias), activation="softmax")]
        made[1].trainable = train_conv
        self.model = Sequential(made, backend="im2col")
        self.model.build((None, *image_shape))
        self.has_bias = conv_bias is not None
        self.model.set_weights([filters, *([conv_bias] if self.has_bias else []), weights, bias])
        self.plan = stages.plan(self.model.layers, "im2col", np.float32)
        self.given: list[np.ndarray] = []
        FakeNetwork.made.append(self)

    def train(self, images, labels, order, learning_rate, batch_size):
        assert images.flags.c_contiguous
        assert (labels.dtype, order.dtype) == (np.int64, np.int64)
        self.given.append(images)
        return self.plan.train(images, labels, order, batch_size, SGD(learning_rate))

    def evaluate(self, images, labels):
        self.given.append(images)
        return self.plan.evaluate(images, labels, None)

    def predict(self, images):
        self.given.append(images)
        return self.plan.predict(images, None)

    def weights(self):
        filters, *bias, weights, dense_bias = self.model.get_weights()
        return filters, bias[0] if bias else None, weights, dense_bias


@pytest.fixture
def fake(monkeypatch):
    FakeNetwork.made = []
    monkeypatch.setattr(tutorial, "fused_network_class", lambda: FakeNetwork)
    return FakeNetwork.made


def test_the_tutorials_network_is_recognised():
    for made in (
        layers(),
        layers(scaled=False),
        layers("all", use_bias=False),
        [Input((12, 10, 1)), *layers()],
    ):
        model = compiled(made)
        model.build((None, 12, 10, 1))
        assert isinstance(model._make_plan(model.optimizer), stages.FusedPlan)
        assert isinstance(model._make_plan(), stages.FusedPlan)


@pytest.mark.parametrize(
    "made",
    [
        [Conv2D(3, 3), Flatten(), Dense(4, activation="softmax")],
        [Conv2D(3, 3), MaxPooling2D(3), Flatten(), Dense(4, activation="softmax")],
        [Conv2D(3, 3), MaxPooling2D(2), Flatten(), Dense(4)],
        [Conv2D(3, 3), MaxPooling2D(2), Flatten(), Dense(4, activation="softmax", use_bias=False)],
        [Conv2D(3, 3), Rescaling(2.0), MaxPooling2D(2), Flatten(), Dense(4, activation="softmax")],
        [Conv2D(3, 3), Conv2D(3, 3), MaxPooling2D(2), Flatten(), Dense(4, activation="softmax")],
        [Rescaling(2.0), Rescaling(0.5), *layers(scaled=False)],
    ],
)
def test_other_networks_are_not(made):
    assert stages.recognise(made) is None


def test_other_optimizers_backends_and_wishes_are_not_fused():
    frozen_dense = layers()
    frozen_dense[-1].trainable = False
    for model in (
        compiled(layers(), optimizer=SGD(0.1, momentum=0.9)),
        compiled(layers(), fused=False),
        compiled(layers(), "im2col"),
        compiled(layers(), "reference"),
        compiled(frozen_dense),
    ):
        model.build((None, 12, 10, 1))
        assert isinstance(model._make_plan(model.optimizer), stages.StagePlan)
    momentum = compiled(layers(), optimizer=SGD(0.1, momentum=0.9))
    momentum.build((None, 12, 10, 1))
    assert isinstance(momentum._make_plan(), stages.FusedPlan)
    never_compiled = Sequential(layers())
    never_compiled.build((None, 12, 10, 1))
    assert isinstance(never_compiled._make_plan(), stages.FusedPlan)


def test_bytes_go_through_untouched_and_the_weights_come_back(fake):
    images = np.ascontiguousarray(X)
    model, twin = compiled(layers("all")), compiled(layers("all"), "im2col")
    history = model.fit(images, Y, batch_size=7, epochs=2, verbose=0, validation_data=(images, Y))
    expected = twin.fit(images, Y, batch_size=7, epochs=2, verbose=0, validation_data=(images, Y))
    assert history.history == expected.history
    for mine, other in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)
    assert model.optimizer.iterations == twin.optimizer.iterations == 18
    assert fake[-1].arguments == ((12, 10, 1), 1 / 255, -0.5, "all", True, True)
    assert all(np.shares_memory(given, images) for network in fake for given in network.given)


@pytest.mark.parametrize("kind", ["float64", "int32", "strided", "bool", "read-only"])
def test_other_images_are_converted_once_a_fit(fake, kind):
    images = {
        "float64": X / 255,
        "int32": X.astype(np.int32),
        "strided": np.repeat(X / np.float32(255), 2, axis=2)[:, :, ::2],
        "bool": X > 100,
        "read-only": np.frombuffer(X.astype(np.float32).tobytes(), np.float32).reshape(X.shape),
    }[kind]
    model = compiled(layers(scaled=False), optimizer=SGD(1e-8))
    model.fit(images, Y, batch_size=1, epochs=2, verbose=0)
    given = [g for network in fake for g in network.given]
    assert all(g.dtype == np.float32 and g.flags.writeable for g in given)
    assert all(np.shares_memory(g, given[0]) for g in given)
    np.testing.assert_array_equal(given[0][..., 0], images.astype(np.float32))


def test_float32_images_are_not_copied(fake):
    images = X.astype(np.float32)
    compiled(layers()).fit(images, Y, verbose=0)
    assert all(np.shares_memory(g, images) for network in fake for g in network.given)


def test_a_prepared_network_is_kept_until_weights_change(fake):
    model = compiled(layers())
    first = model.predict(X)
    model.predict(X[:1])
    model.evaluate(X, Y, verbose=0)
    assert len(fake) == 1
    model.layers[-1].set_weights([np.zeros((80, 4)), np.zeros(4)])
    np.testing.assert_allclose(model.predict(X), 0.25)
    assert len(fake) == 2
    model.fit(X, Y, verbose=0)
    assert not np.allclose(model.predict(X), 0.25)
    assert not np.array_equal(model.predict(X), first)


def test_weights_set_by_a_callback_are_trained_on(fake):
    class Reset(Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.set_weights(start)

        def on_epoch_end(self, epoch, logs=None):
            self.seen = self.model.get_weights()

    model = compiled(layers())
    model.build((None, 12, 10, 1))
    start, callback = model.get_weights(), Reset()
    history = model.fit(X, Y, batch_size=60, epochs=3, verbose=0, callbacks=[callback])
    assert history.history["loss"] == pytest.approx([history.history["loss"][0]] * 3)
    for mine, seen in zip(model.get_weights(), callback.seen, strict=True):
        np.testing.assert_array_equal(mine, seen)


def test_an_interrupt_in_the_compiled_function_leaves_its_weights_in_the_layers(fake, monkeypatch):
    model = compiled(layers())
    model.build((None, 12, 10, 1))
    before = model.get_weights()
    train = FakeNetwork.train

    def interrupted(self, images, labels, order, *rest):
        train(self, images, labels, order, *rest)
        if len(order) > 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(FakeNetwork, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, batch_size=60, verbose=0)
    assert not np.array_equal(before[0], model.get_weights()[0])
    np.testing.assert_array_equal(model.get_weights()[0], FakeNetwork.made[-1].weights()[0])


# ------------------------------------------------------------------------ from here on the compiled network itself


def distance(mine, truth):
    """The greatest difference of each array of weights, relative to the array's greatest weight."""
    return max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(mine, truth, strict=True))


def after_steps(make, backend, images, labels, steps=500, batch_size=1, **options):
    model = compiled(make(), backend, **options)
    order = np.arange(steps * batch_size) % len(images)
    model.fit(images[order], labels[order], batch_size=batch_size, shuffle=False, verbose=0)
    return model.get_weights()


@pytest.mark.parametrize("ties", ["first", "all"])
def test_500_steps_land_on_the_references_weights(ties):
    def make():
        return layers(ties, use_bias=ties == "first", filters=3)

    truth = after_steps(make, "reference", X, Y)
    assert distance(after_steps(make, "numba", X, Y), truth) < 1e-4
    assert distance(after_steps(make, "numba", X, Y, fused=False), truth) < 1e-4
    start = compiled(make(), "reference")
    start.build((None, 12, 10, 1))
    assert all((old != new).mean() > 0.5 for old, new in zip(start.get_weights(), truth, strict=True))


@pytest.mark.parametrize("ties", ["first", "all"])
def test_500_steps_on_full_size_images_land_on_the_same_weights_in_float64(ties):
    images, labels = bars(250, (28, 28), 10)

    def make():
        return layers(ties, use_bias=ties == "first", filters=8, classes=10)

    truth = after_steps(make, "im2col", images, labels, dtype="float64", optimizer=SGD(0.005))
    assert distance(after_steps(make, "numba", images, labels, optimizer=SGD(0.005)), truth) < 1e-4


@pytest.mark.parametrize(
    ("shape", "kernel", "filters", "classes", "batch_size", "channels"),
    [
        ((12, 10), 3, 4, 4, 7, 1),
        ((28, 28), 3, 8, 10, 128, 1),
        ((9, 14), (2, 4), 5, 3, 1, 1),
        ((11, 11), 5, 1, 12, 3, 2),
        ((16, 7), 3, 17, 23, 1, 3),
        ((8, 8), 1, 2, 2, 32, 1),
    ],
)
def test_other_shapes_land_on_the_stages_weights(shape, kernel, filters, classes, batch_size, channels):
    images, labels = bars(200, shape, classes)
    images = np.stack([np.roll(images, c, axis=1) for c in range(channels)], axis=-1)

    def make():
        return layers(filters=filters, kernel=kernel, classes=classes)

    truth = after_steps(make, "im2col", images, labels, 50, batch_size, dtype="float64")
    assert distance(after_steps(make, "numba", images, labels, 50, batch_size), truth) < 1e-4


@pytest.mark.parametrize("batch_size", [1, 7])
def test_a_frozen_convolution_stays_in_the_fused_path(batch_size):
    model = compiled(layers(conv_learns=False))
    model.build((None, 12, 10, 1))
    kernel, bias, *dense = model.get_weights()
    model.fit(X, Y, batch_size=batch_size, verbose=0)
    np.testing.assert_array_equal(model.get_weights()[0], kernel)
    np.testing.assert_array_equal(model.get_weights()[1], bias)
    assert all((old != new).any() for old, new in zip(dense, model.get_weights()[2:], strict=True))


@pytest.mark.parametrize("batch_size", [1, 16])
def test_figures_of_the_fused_path_are_those_of_the_stages(batch_size):
    histories = []
    for fused in (True, False):
        model = compiled(layers(), fused=fused)
        history = model.fit(X, Y, batch_size=batch_size, epochs=3, verbose=0, validation_data=(X, Y))
        histories.append([*history.history["loss"], *history.history["val_loss"], *model.evaluate(X, Y, verbose=0)])
        np.testing.assert_allclose(model.predict(X[:3]), model.predict(X)[:3], rtol=1e-5)
    assert histories[0] == pytest.approx(histories[1], rel=1e-4)


@pytest.mark.parametrize("batch_size", [1, 16])
def test_the_same_seed_gives_the_same_bits_on_one_and_two_threads(batch_size):
    before = utils.get_threads()
    weights = []
    try:
        for threads in (1, before, before):
            utils.set_threads(threads)
            model = compiled(layers())
            model.fit(X, Y, batch_size=batch_size, epochs=2, verbose=0)
            weights.append([w.tobytes() for w in model.get_weights()])
    finally:
        utils.set_threads(before)
    assert weights[0] == weights[1] == weights[2]


@pytest.mark.parametrize("batch_size", [1, 16])
def test_divergence_in_the_fused_path_says_where(batch_size):
    images = X.astype(np.float32)
    images[37, 3, 3] = np.nan
    step = 37 // batch_size + 1
    model = compiled(layers())
    with pytest.raises(DivergedError, match=rf"x\[37\] holds nan .*\(at epoch 1, step {step}\)"):
        model.fit(images, Y, batch_size=batch_size, shuffle=False, verbose=0)
    assert all(np.isfinite(w).all() for w in model.get_weights())
    model = compiled(layers(scaled=False), optimizer=SGD(1e6))
    with pytest.raises(DivergedError, match="try a learning rate lower than 1e"):
        model.fit(X, Y, batch_size=batch_size, epochs=30, verbose=0)
