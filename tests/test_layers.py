"""Layers as declarations: arguments, shapes, initial values, weights, configurations."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import initializers
from fastcnn.errors import ArgumentError
from fastcnn.layers import (
    LAYERS,
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Input,
    LeakyReLU,
    MaxPooling2D,
    RandomFlip,
    RandomRotation,
    RandomTranslation,
    RandomZoom,
    ReLU,
    Rescaling,
    Reshape,
    Softmax,
    ZeroPadding2D,
)

RNG = np.random.default_rng


@pytest.mark.parametrize(
    ("layer", "shape", "output", "count"),
    [
        (Conv2D(8, 3), (28, 28, 1), (26, 26, 8), 80),
        (Conv2D(8, 3, use_bias=False), (28, 28, 1), (26, 26, 8), 72),
        (Conv2D(5, (1, 4)), (7, 6, 3), (7, 3, 5), 65),
        (MaxPooling2D(), (27, 26, 8), (13, 13, 8), 0),
        (MaxPooling2D((3, 1)), (7, 6, 2), (2, 6, 2), 0),
        (Flatten(), (13, 13, 8), (1352,), 0),
        (Dense(10), (1352,), (10,), 13_530),
        (Dense(10, use_bias=False), (1352,), (10,), 13_520),
        (Rescaling(1 / 255), (28, 28, 1), (28, 28, 1), 0),
        (Conv2D(4, 3, strides=2), (28, 9, 3), (13, 4, 4), 112),
        (Conv2D(4, (3, 2), 2, "same"), (7, 8, 3), (4, 4, 4), 76),
        (Conv2D(4, 5, padding="same", activation="relu"), (2, 3, 1), (2, 3, 4), 104),
        (MaxPooling2D(3, strides=2), (8, 7, 2), (3, 3, 2), 0),
        (MaxPooling2D(3, 2, "same"), (8, 7, 2), (4, 4, 2), 0),
        (AveragePooling2D(), (7, 6, 2), (3, 3, 2), 0),
        (AveragePooling2D(2, padding="same"), (7, 6, 2), (4, 3, 2), 0),
        (GlobalAveragePooling2D(), (7, 6, 2), (2,), 0),
        (GlobalMaxPooling2D(keepdims=True), (7, 6, 2), (1, 1, 2), 0),
        (ZeroPadding2D(), (7, 6, 2), (9, 8, 2), 0),
        (ZeroPadding2D(((1, 0), (2, 3))), (7, 6, 2), (8, 11, 2), 0),
        (BatchNormalization(), (7, 6, 5), (7, 6, 5), 20),
        (BatchNormalization(center=False, scale=False), (5,), (5,), 10),
        (Dropout(0.5), (7, 6, 2), (7, 6, 2), 0),
        (RandomTranslation(0.5, 0.5), (7, 6, 2), (7, 6, 2), 0),
        (Reshape((-1, 4)), (7, 6, 2), (21, 4), 0),
        (Reshape((28, 28, 1)), (784,), (28, 28, 1), 0),
        (Activation("relu"), (5,), (5,), 0),
        (ReLU(), (5,), (5,), 0),
        (LeakyReLU(), (5,), (5,), 0),
        (Softmax(), (5,), (5,), 0),
    ],
    ids=lambda value: str(value)[:24],
)
def test_shapes_and_counts(layer, shape, output, count):
    layer.build(shape, RNG(0), "float32")
    assert layer.output_shape == output
    assert layer.count_params() == count == sum(w.size for w in layer.get_weights())
    assert all(w.dtype == np.float32 for w in layer.get_weights())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Conv2D(8, 3, padding="full"), ["padding='full'", "'valid'", "'same'"]),
        (lambda: Conv2D(8, 3, strides=0), ["strides=0"]),
        (lambda: Conv2D(8, 3, activation="swish"), ["activation='swish'", "'linear'", "'gelu'"]),
        (lambda: Conv2D(8, 3, dilation_rate=2), ["dilation_rate=2", "not available yet", "kernel_size"]),
        (lambda: Conv2D(8, 3, colour="red"), ["colour='red'", "is not an argument", "kernel_size"]),
        (lambda: Conv2D(0, 3), ["filters=0", "at least 1"]),
        (lambda: Conv2D(8, (3, 3, 3)), ["kernel_size=(3, 3, 3)"]),
        (lambda: Conv2D(8, 2.5), ["kernel_size=2.5"]),
        (
            lambda: Conv2D(8, 3, kernel_initializer="glorot"),
            ["Conv2D: kernel_initializer='glorot'", "'glorot_uniform'"],
        ),
        (lambda: Conv2D(8, 3, input_shape=(28, 0, 1)), ["Conv2D: input_shape=(28, 0, 1)", "at least 1"]),
        (lambda: Dense(8, bias_initializer="nil"), ["Dense: bias_initializer='nil'", "'zeros'"]),
        (lambda: BatchNormalization(gamma_initializer=1), ["BatchNormalization: gamma_initializer=1", "'ones'"]),
        (lambda: Conv2D(8, 3, name=3), ["name=3"]),
        (lambda: MaxPooling2D(2, strides=(1, 0)), ["strides=0"]),
        (lambda: AveragePooling2D(2, padding="full"), ["AveragePooling2D", "padding='full'"]),
        (lambda: GlobalMaxPooling2D(keepdims=3), ["GlobalMaxPooling2D", "keepdims=3"]),
        (lambda: Dropout(1.0), ["rate=1.0", "less than 1"]),
        (lambda: RandomTranslation(2, 0), ["RandomTranslation: height_factor=2", "-1 to 1"]),
        (lambda: RandomTranslation(0, (0, -1.5)), ["width_factor=(0, -1.5)", "-1 to 1"]),
        (lambda: RandomRotation((1, 0, 0)), ["RandomRotation: factor=(1, 0, 0)", "two"]),
        (lambda: RandomRotation("0.1"), ["factor='0.1'"]),
        (lambda: RandomZoom(0.1, fill_mode="mirror"), ["fill_mode='mirror'", "'reflect'", "'constant'"]),
        (lambda: RandomZoom(0.1, interpolation="cubic"), ["interpolation='cubic'", "'bilinear'"]),
        (lambda: RandomZoom(0.1, fill_value=np.nan), ["fill_value=nan"]),
        (lambda: RandomZoom(0.1, data_format="channels_first"), ["RandomZoom: data_format='channels_first'"]),
        (lambda: Dropout(0.5, (1, 1)), ["noise_shape", "not available yet"]),
        (lambda: BatchNormalization(axis=1), ["axis=1", "-1"]),
        (lambda: BatchNormalization(momentum=2), ["momentum=2"]),
        (lambda: BatchNormalization(epsilon=0), ["epsilon=0"]),
        (lambda: Activation("maxout"), ["activation='maxout'", "'relu'"]),
        (lambda: ReLU(6), ["max_value=6", "not available yet"]),
        (lambda: ReLU(threshold=1), ["threshold=1", "not available yet"]),
        (lambda: LeakyReLU(-1), ["negative_slope=-1"]),
        (lambda: Softmax(axis=1), ["axis=1", "last"]),
        (lambda: Reshape((-1, -1)), ["(-1, -1)", "only one"]),
        (lambda: Reshape((-1, 0)), ["Reshape: target_shape=(-1, 0)"]),
        (lambda: ZeroPadding2D((1, 2, 3)), ["padding=(1, 2, 3)"]),
        (lambda: ZeroPadding2D(-1), ["padding=-1"]),
        (lambda: MaxPooling2D(2, ties="last"), ["ties='last'", "'first'", "'all'"]),
        (lambda: Dense(10, activation="swish"), ["activation='swish'", "'softmax'"]),
        (lambda: Dense(True), ["units=True"]),
        (lambda: Dense(10, use_bias="no"), ["use_bias='no'"]),
        (lambda: Rescaling(float("nan")), ["scale=nan", "finite"]),
        (lambda: Input(()), ["shape=()"]),
        (lambda: Input((None, None, 1)), ["Input: shape=(None, None, 1)", "whole numbers"]),
    ],
    ids=lambda value: None if callable(value) else value[0],
)
def test_arguments_that_are_not_available_say_what_is(make, words):
    with pytest.raises(ArgumentError) as caught:
        make()
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


def test_keras_defaults_are_accepted_where_they_ask_for_nothing():
    layer = Conv2D(8, 3, data_format="channels_last", dilation_rate=(1, 1), kernel_regularizer=None)
    assert layer.kernel_size == (3, 3)


@pytest.mark.parametrize(
    ("layer", "shape", "words"),
    [
        (Conv2D(8, 3, name="eyes"), (2, 5, 1), ["eyes (Conv2D)", "3x3", "2x5"]),
        (MaxPooling2D(4), (5, 3, 1), ["MaxPooling2D", "4x4", "5x3"]),
        (Conv2D(8, 3), (28, 28), ["Conv2D", "(28, 28)", "channels"]),
        (Dense(10), (5, 5, 8), ["Dense", "(5, 5, 8)", "Flatten()"]),
        (AveragePooling2D(4), (5, 3, 1), ["AveragePooling2D", "4x4", "5x3"]),
        (GlobalAveragePooling2D(), (5,), ["GlobalAveragePooling2D", "channels"]),
        (Reshape((4, 4)), (15,), ["Reshape", "15 numbers", "(4, 4)"]),
        (Reshape((-1, 4)), (15,), ["Reshape", "15 numbers", "(-1, 4)"]),
    ],
)
def test_inputs_that_do_not_fit_name_the_layer_and_the_sizes(layer, shape, words):
    with pytest.raises(ArgumentError) as caught:
        layer.build(shape, RNG(0), "float32")
    assert all(word in str(caught.value) for word in words)
    assert not layer.built


@pytest.mark.parametrize(
    "layer",
    [
        Conv2D(4, (3, 2), use_bias=False, kernel_initializer=initializers.RandomNormal(stddev=1 / 9)),
        MaxPooling2D((3, 2), ties="all", name="pool"),
        Flatten(),
        Dense(7, "softmax", kernel_initializer="he_uniform", trainable=False),
        Rescaling(1 / 255, -0.5),
        Conv2D(4, 3, (2, 1), "same", activation="gelu"),
        MaxPooling2D(3, 2, "same"),
        AveragePooling2D(3, (1, 2), "same"),
        GlobalAveragePooling2D(keepdims=True),
        GlobalMaxPooling2D(),
        ZeroPadding2D(((1, 2), (0, 3))),
        BatchNormalization(momentum=0.9, epsilon=0.01, center=False, gamma_initializer="zeros"),
        Dropout(0.25, seed=3),
        RandomTranslation((-0.1, 0.2), 0.3, "constant", "nearest", 3, 0.5),
        RandomRotation(0.1, "wrap"),
        RandomZoom((0.2, 0.1)),
        RandomFlip("horizontal"),
        Reshape((-1, 3)),
        Activation("tanh"),
        ReLU(negative_slope=0.1),
        LeakyReLU(alpha=0.2),
        Softmax(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_configuration_makes_the_same_layer_again(layer):
    twin = LAYERS[type(layer).__name__].from_config(layer.get_config())
    assert twin.get_config() == layer.get_config()
    shape = (120,) if isinstance(layer, Dense) else (12, 10, 1)
    layer.build(shape, RNG(5), "float32")
    twin.build(shape, RNG(5), "float32")
    for mine, other in zip(layer.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_the_weights_of_batch_normalization_stand_in_keras_order():
    layer = BatchNormalization()
    layer.build((3,), RNG(0), "float32")
    assert list(layer.parameters) == ["gamma", "beta", "moving_mean", "moving_variance"]
    assert [p.trainable for p in layer.parameters.values()] == [True, True, False, False]
    assert [w.tolist() for w in layer.get_weights()] == [[1] * 3, [0] * 3, [0] * 3, [1] * 3]


def test_weights_are_copied_out_and_in():
    layer = Dense(3)
    layer.build((5,), RNG(0), "float32")
    kernel, bias = layer.get_weights()
    kernel[:] = 1.0
    assert not (layer.get_weights()[0] == 1.0).any()
    layer.set_weights([kernel, bias + 2])
    assert (layer.get_weights()[0] == 1.0).all()
    assert (layer.get_weights()[1] == 2.0).all()
    with pytest.raises(ValueError, match="read-only"):
        layer.weights[0][0, 0] = 3.0


@pytest.mark.parametrize("position", [0, 1])
def test_weights_of_another_shape_change_nothing(position):
    layer = Dense(3)
    layer.build((5,), RNG(0), "float32")
    before = layer.get_weights()
    wrong = [np.ones((5, 3)), np.ones(3)]
    wrong[position] = wrong[position][1:]
    with pytest.raises(ArgumentError, match="shape"):
        layer.set_weights(wrong)
    with pytest.raises(ArgumentError, match="1 arrays"):
        layer.set_weights(wrong[:1])
    for mine, old in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, old)


def test_a_built_layer_refuses_another_input_and_another_dtype():
    layer = Dense(3)
    layer.build((5,), RNG(0), "float32")
    before = layer.get_weights()
    layer.build((5,), RNG(1), "float32")
    np.testing.assert_array_equal(layer.get_weights()[0], before[0])
    with pytest.raises(ArgumentError, match=r"built for input \(5,\)"):
        layer.build((6,), RNG(0), "float32")
    with pytest.raises(ArgumentError, match="float64"):
        layer.build((5,), RNG(0), "float64")


@pytest.mark.parametrize(
    ("name", "low", "high", "spread"),
    [
        ("glorot_uniform", -np.sqrt(6 / 108), np.sqrt(6 / 108), np.sqrt(2 / 108)),
        ("he_uniform", -np.sqrt(6 / 36), np.sqrt(6 / 36), np.sqrt(2 / 36)),
        ("lecun_uniform", -np.sqrt(3 / 36), np.sqrt(3 / 36), np.sqrt(1 / 36)),
        ("glorot_normal", -2.3 * np.sqrt(2 / 108), 2.3 * np.sqrt(2 / 108), np.sqrt(2 / 108)),
        ("he_normal", -2.3 * np.sqrt(2 / 36), 2.3 * np.sqrt(2 / 36), np.sqrt(2 / 36)),
        ("lecun_normal", -2.3 * np.sqrt(1 / 36), 2.3 * np.sqrt(1 / 36), np.sqrt(1 / 36)),
        ("truncated_normal", -0.1, 0.1, 0.05 * 0.87963),
        ("random_uniform", -0.05, 0.05, 0.05 / np.sqrt(3)),
        ("random_normal", -0.3, 0.3, 0.05),
        ("zeros", 0.0, 0.0, 0.0),
        ("ones", 1.0, 1.0, 0.0),
    ],
)
def test_initializers_have_their_spread(name, low, high, spread):
    values = np.concatenate([initializers.get(name)((3, 3, 4, 8), RNG(seed)).ravel() for seed in range(200)])
    assert values.min() >= low
    assert values.max() <= high
    assert values.std() == pytest.approx(spread, rel=0.02)


def test_an_initializer_with_a_seed_of_its_own_ignores_the_generator():
    own = initializers.RandomNormal(seed=3)
    np.testing.assert_array_equal(own((4,), RNG(0)), own((4,), RNG(1)))
    assert not np.array_equal(initializers.RandomNormal()((4,), RNG(0)), own((4,), RNG(0)))
