"""Random translation, rotation and zoom: known transformations exactly, gradients, draws, rest in inference."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn.layers import Conv2D, Dense, Flatten, RandomFlip, RandomRotation, RandomTranslation, RandomZoom, Rescaling
from fastcnn.models import Sequential, load_model
from fastcnn.optimizers import Adam
from fastcnn.stages.augmentation import RandomTransformationStage

RNG = np.random.default_rng
IMAGES = RNG(0).standard_normal((3, 6, 5, 2))
RAMP = np.arange(25.0).reshape(1, 5, 5, 1)


def transformed(layer, images, seed=0):
    """What the layer makes of the images in training, and their stage."""
    stage = RandomTransformationStage(layer, None, RNG(seed))
    return stage.forward(images, training=True, keep=True), stage


def moved(layer, images=IMAGES):
    return transformed(layer, images)[0]


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize(
    ("fill_mode", "rows", "columns"),
    [
        ("reflect", [2, 1, 0, 0, 1, 2], [2, 3, 4, 4, 3]),
        ("wrap", [3, 4, 5, 0, 1, 2], [2, 3, 4, 0, 1]),
        ("nearest", [0, 0, 0, 0, 1, 2], [2, 3, 4, 4, 4]),
    ],
)
def test_whole_shifts_move_pixels_and_fill_what_is_left(interpolation, fill_mode, rows, columns):
    """Three down of six rows, two to the left of five columns."""
    layer = RandomTranslation((0.5, 0.5), (-0.4, -0.4), fill_mode, interpolation)
    np.testing.assert_array_equal(moved(layer), IMAGES[:, rows][:, :, columns])


def test_constant_filling_takes_the_value():
    layer = RandomTranslation((0.5, 0.5), (-0.4, -0.4), "constant", fill_value=7.0)
    expected = np.full_like(IMAGES, 7.0)
    expected[:, 3:, :3] = IMAGES[:, :3, 2:]
    np.testing.assert_array_equal(moved(layer), expected)
    np.testing.assert_array_equal(
        moved(RandomTranslation((1, 1), (0, 0), "constant", fill_value=7)), np.full_like(IMAGES, 7)
    )


def test_shifts_between_pixels_are_weighted_means():
    down = moved(RandomTranslation((0.05, 0.05), (0, 0), "constant", fill_value=1.0), RAMP)[0, :, 0, 0]
    np.testing.assert_allclose(down, [0.25, 3.75, 8.75, 13.75, 18.75], rtol=1e-12)
    nearest = moved(RandomTranslation((0.05, 0.05), (0, 0), interpolation="nearest"), RAMP)
    np.testing.assert_array_equal(nearest, RAMP)


@pytest.mark.parametrize(
    ("mode", "ways"),
    [
        ("horizontal", [(1, 1), (1, -1)]),
        ("vertical", [(1, 1), (-1, 1)]),
        ("horizontal_and_vertical", [(1, 1), (1, -1), (-1, 1), (-1, -1)]),
    ],
)
def test_flips_are_exact_and_all_happen(mode, ways):
    images = RNG(4).standard_normal((200, 4, 3, 2)).astype(np.float32)
    flipped = moved(RandomFlip(mode), images)
    counts = [
        sum(np.array_equal(after, before[::down, ::right]) for before, after in zip(images, flipped, strict=True))
        for down, right in ways
    ]
    assert sum(counts) == len(images)
    assert min(counts) > 0.6 * len(images) / len(ways)


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_quarter_turns_are_counter_clockwise(quarter):
    square = RNG(1).standard_normal((2, 5, 5, 3))
    for layer in (RandomRotation([quarter / 4] * 2), RandomRotation([quarter / 4 - 1] * 2, "constant")):
        np.testing.assert_allclose(moved(layer, square), np.rot90(square, quarter, (1, 2)), atol=1e-12)


def test_half_a_turn_of_an_image_that_is_not_square():
    np.testing.assert_allclose(moved(RandomRotation((0.5, 0.5), "wrap")), IMAGES[:, ::-1, ::-1], atol=1e-12)


def test_an_eighth_of_a_turn_of_a_ramp():
    """The centre stays; a pixel to its right is read along the diagonal: down and right, a half-root each."""
    turned = moved(RandomRotation((0.125, 0.125)), RAMP)[0, :, :, 0]
    assert turned[2, 2] == pytest.approx(12.0)
    assert turned[2, 3] == pytest.approx(12 + 0.5**0.5 * (5 + 1))
    assert turned[1, 2] == pytest.approx(12 + 0.5**0.5 * (1 - 5))


def test_zooming_in_and_out_is_about_the_centre():
    """The figures of a ramp 0 .. 24, by hand: of a bilinear surface, bilinear interpolation is exact."""
    inwards = moved(RandomZoom((-0.5, -0.5)), RAMP)[0, :, :, 0]
    np.testing.assert_allclose(inwards, 6 + 2.5 * np.arange(5)[:, None] + 0.5 * np.arange(5), rtol=1e-12)
    outwards = moved(RandomZoom((0.5, 0.5), (0.8, 0.8), "constant"), RAMP)[0, :, :, 0]
    expected = np.zeros((5, 5))
    expected[1:4, 1:4] = 12 + 7.5 * np.arange(-1, 2)[:, None] + 1.8 * np.arange(-1, 2)
    np.testing.assert_allclose(outwards, expected, atol=1e-12)
    nearest = moved(RandomZoom((0.5, 0.5), (0.8, 0.8), "constant", "nearest"), RAMP)[0, :, :, 0]
    np.testing.assert_array_equal(nearest[1:4, 1:4], [[5, 7, 9], [10, 12, 14], [20, 22, 24]])


def test_without_a_width_factor_zoom_keeps_the_aspect_ratio():
    images = np.repeat(RNG(2).standard_normal((1, 5, 5, 1)), 6, axis=0)
    images = images + images.transpose(0, 2, 1, 3)
    same = moved(RandomZoom(0.4), images)
    np.testing.assert_allclose(same, same.transpose(0, 2, 1, 3), rtol=1e-12)
    other = moved(RandomZoom(0.4, 0.4), images)
    assert np.abs(other - other.transpose(0, 2, 1, 3)).max() > 0.01


@pytest.mark.parametrize("fill_mode", ["reflect", "wrap", "nearest", "constant"])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("make", [RandomRotation, RandomZoom, lambda *a, **k: RandomTranslation(0.9, *a, **k)])
def test_the_gradient_is_the_transpose(make, interpolation, fill_mode):
    """Of a map A x + b: grad . (A x) = (A^T grad) . x, for any images and cotangents, also far outside."""
    layer = make((-0.9, 0.9), fill_mode=fill_mode, interpolation=interpolation, fill_value=2.0)
    y, stage = transformed(layer, IMAGES)
    at_zero = transformed(layer, np.zeros_like(IMAGES))[0]
    grad_y = RNG(3).standard_normal(y.shape)
    grad_x = stage.backward(grad_y)
    assert np.vdot(grad_y, y - at_zero) == pytest.approx(np.vdot(grad_x, IMAGES), rel=1e-12)
    assert (at_zero != 0).any() == (fill_mode == "constant")
    if fill_mode != "constant":  # the weights sum to one
        np.testing.assert_allclose(transformed(layer, np.ones_like(IMAGES))[0], 1.0, rtol=1e-12)


def network(seed=4, backend="im2col", dtype="float64"):
    layers = [
        Conv2D(2, 3, padding="same", activation="tanh", input_shape=(6, 5, 2)),
        RandomTranslation(0.2, 0.2),
        RandomRotation(0.1, "nearest"),
        RandomZoom(0.2, fill_mode="constant", fill_value=0.5),
        Flatten(),
        Dense(3, activation="softmax"),
    ]
    model = Sequential(layers, backend=backend, dtype=dtype, seed=seed)
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def test_inference_leaves_images_as_they_are():
    model = Sequential([RandomTranslation(0.3, 0.3, input_shape=(6, 5, 2)), RandomRotation(0.3), RandomZoom(0.3)])
    np.testing.assert_array_equal(model.predict(IMAGES), IMAGES.astype(np.float32))
    model.compile("sgd", "mse")
    gradient = model.gradients(IMAGES, np.zeros_like(IMAGES)).input
    np.testing.assert_allclose(gradient, IMAGES * 2 / IMAGES.size, rtol=1e-5)


def test_every_image_and_every_batch_gets_a_draw_of_its_own():
    same = np.repeat(IMAGES[:1], 8, axis=0)
    for layer in (RandomTranslation(0.3, 0.3), RandomRotation(0.3), RandomZoom(0.3)):
        first, stage = transformed(layer, same)
        second = stage.forward(same, training=True, keep=False)
        assert len({image.tobytes() for image in [*first, *second]}) == 16


def test_draws_keep_inside_their_bounds():
    layer = RandomTranslation((-0.1, 0.3), 0.2)
    shifts = -layer.draw(2000, (10, 20), RNG(0))[:, :, 2]
    assert (shifts.min(axis=0) >= [-1, -4]).all()
    assert (shifts.max(axis=0) <= [3, 4]).all()
    np.testing.assert_allclose(shifts.mean(axis=0), [1, 0], atol=0.2)


def test_draws_come_from_the_models_seed_or_the_layers():
    def weights(seed, own=None):
        layers = [RandomRotation(0.2, seed=own, input_shape=(6, 5, 2)), Flatten(), Dense(3, "softmax", name="d")]
        model = Sequential(layers, backend="im2col", seed=seed)
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.set_weights([np.ones((60, 3)), np.zeros(3)])
        model.fit(IMAGES, [0, 2, 1], epochs=3, shuffle=False, verbose=0)
        return model.get_weights()[0]

    np.testing.assert_array_equal(weights(1), weights(1))
    assert (weights(1) != weights(2)).any()
    np.testing.assert_array_equal(weights(1, own=3), weights(2, own=3))
    assert (weights(1, own=3) != weights(1, own=4)).any()


def test_asking_for_gradients_changes_no_draw():
    model, twin, labels = network(), network(), [0, 2, 1]
    first = model.gradients(IMAGES, labels, training=True)
    np.testing.assert_array_equal(model.gradients(IMAGES, labels, training=True).input, first.input)
    for either in (model, twin):
        either.fit(IMAGES, labels, epochs=2, verbose=0)
    for mine, other in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("backend", ["reference", "numba"])
def test_all_backends_draw_the_same(backend):
    models = [network(backend=name, dtype=None) for name in ("im2col", backend)]
    losses = [model.fit(IMAGES, [0, 2, 1], epochs=3, verbose=0).history["loss"] for model in models]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


def test_bytes_of_one_channel_go_in_and_the_model_comes_back_from_its_file(tmp_path):
    """First in the network, on images without a channel axis, as they come from MNIST."""
    images, labels = RNG(7).integers(0, 256, (40, 8, 7), dtype=np.uint8), np.arange(40) % 2
    images[labels == 1, 3:5] = 255
    model = Sequential(
        [RandomTranslation(0.1, 0.1, "constant"), Rescaling(1 / 255), Flatten(), Dense(2, "softmax")],
        backend="im2col",
        seed=0,
    )
    model.compile(Adam(0.02), "sparse_categorical_crossentropy", ["accuracy"])
    history = model.fit(images, labels, epochs=30, verbose=0).history
    assert model.input_shape == (None, 8, 7, 1)
    assert history["accuracy"][-1] > 0.8
    model.save(tmp_path / "m")
    again = load_model(tmp_path / "m", backend="im2col")
    assert again.get_config() == model.get_config()
    np.testing.assert_array_equal(again.predict(images), model.predict(images))
    lines = []
    again.summary(print_fn=lines.append)
    assert "random_translation (RandomTranslation)" in lines[0]
