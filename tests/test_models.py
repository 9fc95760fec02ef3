"""Sequential's face: structure, seeds, checks of what callers pass, summary."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
from small_images import bars

from fastcnn import backends, stages, utils
from fastcnn.errors import ArgumentError
from fastcnn.layers import Conv2D, Dense, Flatten, Input, MaxPooling2D
from fastcnn.losses import CategoricalCrossentropy, SparseCategoricalCrossentropy
from fastcnn.models import Sequential
from fastcnn.optimizers import SGD, Adadelta, Adam, RMSprop

X, Y = bars(40)
ONE_HOT = utils.to_categorical(Y, 4)


def small(**options):
    layers = [Conv2D(3, 3), MaxPooling2D(2), Flatten(), Dense(4, activation="softmax")]
    model = Sequential(layers, **{"backend": "im2col", "seed": 1, **options})
    model.compile(SGD(0.05), "sparse_categorical_crossentropy", ["accuracy"])
    return model


def test_importing_and_building_leave_the_compiler_out():
    code = (
        "import sys, fastcnn\n"
        "assert 'numpy' not in sys.modules, 'numpy'\n"
        "from fastcnn.models import Sequential\n"
        "from fastcnn.layers import Conv2D, Dense, Flatten, MaxPooling2D\n"
        "tail = [MaxPooling2D(2), Flatten(), Dense(10, 'softmax')]\n"
        "m = Sequential([Conv2D(8, 3, input_shape=(28, 28, 1)), *tail])\n"
        "m.compile('sgd', 'categorical_crossentropy')\n"
        "m.get_weights()\n"
        "assert 'numba' not in sys.modules, 'numba'\n"
        "print(fastcnn.Sequential is Sequential, fastcnn.layers.Dense is Dense, 'models' in dir(fastcnn))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.stdout.strip(), ran.stderr) == ("True True True", "")


@pytest.mark.parametrize("backend", backends.BACKENDS)
def test_weights_are_kept_in_the_type_that_the_backend_declares(backend):
    model = Sequential([Dense(2, input_dim=3)], backend=backend)
    assert model.get_weights()[0].dtype == backends.get(backend).DTYPE == np.dtype(stages.DTYPES[backend][0])


def test_the_input_shape_comes_from_input_or_the_first_layer_or_the_data():
    first = Sequential([Conv2D(3, 3, input_shape=(12, 10, 1)), Flatten(), Dense(4)], seed=5)
    second = Sequential([Input(shape=(12, 10, 1)), Conv2D(3, 3), Flatten(), Dense(4)], seed=5)
    third = Sequential([Conv2D(3, 3), Flatten(), Dense(4)], seed=5, backend="im2col")
    assert not third.built
    third.predict(X)
    assert first.input_shape == second.input_shape == third.input_shape == (None, 12, 10, 1)
    assert first.output_shape == (None, 4)
    assert [layer.name for layer in second.layers] == ["conv2d", "flatten", "dense"]
    for one, two, three in zip(first.get_weights(), second.get_weights(), third.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)


def test_layers_are_named_as_keras_names_them_and_can_be_popped():
    model = Sequential([MaxPooling2D(1), MaxPooling2D(1), Flatten(), Dense(2), Dense(3), Dense(4)])
    names = ["max_pooling2d", "max_pooling2d_1", "flatten", "dense", "dense_1", "dense_2"]
    assert [layer.name for layer in model.layers] == names
    assert model.get_layer("dense_2") is model.get_layer(index=-1) is model.layers[-1]
    assert model.pop().name == "dense_2"
    assert len(model.layers) == 5
    with pytest.raises(ArgumentError, match="another name"):
        model.add(Dense(4, name="dense"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Sequential(backend="cuda"), ["backend='cuda'", "'numba'"]),
        (lambda: Sequential(dtype="float64"), ["dtype='float64'", "'float32'"]),
        (lambda: Sequential(seed=-1), ["seed=-1"]),
        (lambda: Sequential(["dense"]), ["'dense' is no layer"]),
        (lambda: Sequential([Dense(2), Input((3,))]), ["first"]),
        (lambda: Sequential([Input((3,)), Dense(2, input_shape=(4,))]), ["(4,)", "(3,)"]),
        (lambda: Sequential([Conv2D(3, 3, input_shape=(9, 9, 1)), Dense(4)]), ["dense (Dense)", "Flatten()"]),
        (lambda: Sequential([flat := Flatten(), flat]), ["flatten (Flatten)", "has this layer already"]),
        (lambda: Sequential().pop(), ["no layers"]),
        (lambda: Sequential([Dense(3, name="last")]).get_layer("first"), ["get_layer: name='first'", "'last'"]),
        (lambda: Sequential([Dense(3)]).get_layer(index=1), ["index=1", "1 layers"]),
        (lambda: Sequential([Dense(3)]).get_layer(), ["one of the two"]),
        (lambda: Sequential().predict(X), ["no layers"]),
        (lambda: Sequential([Dense(3)]).get_weights(), ["input_shape="]),
        (lambda: Sequential([Dense(3)]).evaluate(X, Y), ["compile"]),
        (lambda: Sequential([Dense(3)]).compile("lion", "mse"), ["optimizer='lion'", "'sgd'", "'adam'"]),
        (lambda: Sequential([Dense(3)]).compile("sgd", "hinge"), ["loss='hinge'", "SparseCategoricalCrossentropy"]),
        (lambda: Sequential([Dense(3)]).compile("sgd", "cross"), ["loss='cross'", "'categorical_crossentropy'"]),
        (lambda: Sequential([Dense(3)]).compile("sgd", metrics=["auc"]), ["metrics='auc'", "'accuracy'"]),
        (
            lambda: Sequential([Dense(3)]).compile("sgd", loss_weights=[1]),
            ["loss_weights", "not available yet"],
        ),
        (lambda: SGD(decay=1e-6), ["decay=1e-06", "learning_rate"]),
        (lambda: SGD(lr=0), ["learning_rate=0", "above 0"]),
        (lambda: SGD(float("inf")), ["learning_rate=inf"]),
        (lambda: SGD("fast"), ["learning_rate='fast'"]),
        (lambda: SGD(momentum=1.5), ["momentum=1.5"]),
        (lambda: SGD(loss_scale_factor=2.0), ["loss_scale_factor=2.0", "not available yet", "momentum"]),
        (lambda: SGD(use_ema="yes"), ["use_ema='yes'"]),
        (lambda: SGD(use_ema=True, ema_momentum=1.5), ["SGD: ema_momentum=1.5", "from 0 to 1"]),
        (lambda: SGD(use_ema=True, ema_overwrite_frequency=0), ["ema_overwrite_frequency=0"]),
        (lambda: SGD(clipnorm=0), ["clipnorm=0", "above 0"]),
        (lambda: SGD(clipnorm=1, clipvalue=1), ["clipnorm and clipvalue", "only one"]),
        (lambda: SGD(weight_decay=-1), ["weight_decay=-1"]),
        (lambda: Adam(beta_1=1.0), ["Adam: beta_1=1.0"]),
        (lambda: RMSprop(epsilon=0), ["RMSprop: epsilon=0"]),
        (lambda: Adadelta(rho=-1), ["Adadelta: rho=-1"]),
        (lambda: CategoricalCrossentropy(label_smoothing=2), ["label_smoothing=2"]),
        (lambda: SparseCategoricalCrossentropy(label_smoothing=0.1), ["label_smoothing=0.1"]),
        (lambda: utils.to_categorical([0, 5], 3), ["label 5", "0 to 2"]),
        (lambda: utils.to_categorical([0.5]), ["0.5", "whole"]),
        (lambda: utils.to_categorical(["a"]), ["dtype"]),
        (lambda: utils.set_threads(0), ["threads=0"]),
        (lambda: utils.set_threads(10_000), ["threads=10000", "at most"]),
    ],
)
def test_what_is_not_available_says_what_is(make, words):
    with pytest.raises(ArgumentError) as caught:
        make()
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


NAN_LABELS = np.where(np.arange(40) == 7, np.nan, Y)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": X[:0], "y": Y[:0]}, ["x is empty"]),
        ({"x": X.astype(object)}, ["x has dtype object"]),
        ({"x": [X[0], X[1, :5]]}, ["x: the images differ"]),
        ({"x": X.astype(complex)}, ["x has dtype complex128"]),
        ({"x": X[:, :11]}, ["x has shape (40, 11, 10)", "(N, 12, 10, 1)"]),
        ({"x": X[0][..., None]}, ["x has shape (12, 10, 1)", "x[None]"]),
        ({"y": Y[:39]}, ["39 labels for 40 images"]),
        ({"y": None}, ["y has dtype object"]),
        ({"y": 3}, ["y holds a single number"]),
        ({"y": Y + 1}, ["label 4", "0 to 3"]),
        ({"y": Y - 1}, ["label -1"]),
        ({"y": NAN_LABELS}, ["y holds nan"]),
        ({"y": Y + 0.5}, ["whole"]),
        ({"y": ONE_HOT}, ["y has shape (40, 4)", "argmax", "'categorical_crossentropy'"]),
        ({"epochs": 0}, ["epochs=0"]),
        ({"epochs": 1.5}, ["epochs=1.5"]),
        ({"batch_size": 0}, ["batch_size=0"]),
        ({"batch_size": -3}, ["batch_size=-3"]),
        ({"initial_epoch": -1}, ["initial_epoch=-1"]),
        ({"verbose": 3}, ["verbose=3"]),
        ({"shuffle": "batch"}, ["shuffle='batch'"]),
        ({"validation_split": 1.0}, ["validation_split=1"]),
        ({"validation_split": -0.1}, ["validation_split=-0.1"]),
        ({"validation_data": (X,)}, ["validation_data"]),
        ({"validation_data": (X, Y[:5])}, ["validation_data: y holds 5 labels"]),
        ({"validation_data": (X[:, :5], Y)}, ["validation_data: x has shape"]),
        ({"callbacks": ["bar"]}, ["callbacks holds 'bar'"]),
        ({"class_weight": {0: -2.0}}, ["class_weight[0]=-2.0", "at least 0"]),
        ({"class_weight": [1.0, 2.0]}, ["class_weight=[1.0, 2.0]", "dict"]),
        ({"class_weight": {4: 2.0}}, ["class_weight: there is no class 4", "0 to 3"]),
        ({"sample_weight": np.ones(39)}, ["sample_weight", "(39,)", "(40,)"]),
        ({"sample_weight": np.full(40, np.nan)}, ["sample_weight", "not finite"]),
        ({"validation_data": (X, Y, Y[:5])}, ["validation_data: sample_weight", "(5,)"]),
        ({"colour": 1}, ["colour=1", "is not an argument"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_bad_input_to_fit_is_named_and_trains_nothing(change, words):
    model = small()
    model.predict(X)
    before = model.get_weights()
    with pytest.raises(ArgumentError) as caught:
        model.fit(**{"x": X, "y": Y, "verbose": 0, **change})
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)
    for mine, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, old)


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (Y, ["y has shape (40,)", "to_categorical", "'sparse_categorical_crossentropy'"]),
        (ONE_HOT[:, :3], ["(40, 3)", "(40, 4)"]),
        (-ONE_HOT, ["y[0] holds a negative"]),
        (np.where(np.arange(40)[:, None] == 6, np.nan, ONE_HOT), ["y[6] holds", "not finite"]),
    ],
)
def test_bad_rows_of_labels_are_named(y, words):
    model = small()
    model.compile("sgd", "categorical_crossentropy")
    with pytest.raises(ArgumentError) as caught:
        model.fit(X, y, verbose=0)
    assert all(word in str(caught.value) for word in words)


def test_the_loss_and_the_last_layer_have_to_agree():
    model = small()
    model.compile("sgd", SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(ArgumentError, match="ends in softmax"):
        model.fit(X, Y, verbose=0)
    model = Sequential([Flatten(), Dense(4)], backend="im2col")
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ArgumentError, match="from_logits=True"):
        model.fit(X, Y, verbose=0)
    model = Sequential([Conv2D(3, 3)], backend="im2col")
    model.compile("sgd", SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(ArgumentError, match=r"Dense\(classes\)"):
        model.fit(X, Y, verbose=0)
    model = Sequential([Flatten(), Dense(1)], backend="im2col")
    model.compile("sgd", "mse", ["accuracy"])
    with pytest.raises(ArgumentError, match="metrics: 'accuracy'"):
        model.fit(X, Y, verbose=0)
    model.compile("sgd", "mse")
    with pytest.raises(ArgumentError, match=r"y has shape \(40, 4\).*\(40, 1\)"):
        model.fit(X, ONE_HOT, verbose=0)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    runs = []
    for seed in (3, 3, 4):
        model = small(seed=seed)
        model.fit(X / 255, Y, epochs=2, batch_size=3, verbose=0)
        runs.append(model.get_weights())
    for one, two, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, two)
        assert not np.array_equal(one, other)


def test_set_random_seed_fixes_models_without_a_seed():
    def seeds():
        return [Sequential().seed for _ in range(3)]

    utils.set_random_seed(11)
    first = seeds()
    utils.set_random_seed(11)
    assert seeds() == first
    assert len(set(first)) == 3
    twin = small(seed=first[0])
    utils.set_random_seed(11)
    one = small(seed=None)
    one.predict(X)
    twin.predict(X)
    np.testing.assert_array_equal(one.get_weights()[0], twin.get_weights()[0])


def test_numpys_global_generator_is_left_alone():
    np.random.seed(1)
    expected = np.random.random()
    np.random.seed(1)
    small().fit(X, Y, verbose=0)
    assert np.random.random() == expected


def test_a_missing_channel_axis_and_any_number_type_give_the_same_answers():
    model = small()
    expected = model.predict(X)
    assert expected.shape == (40, 4)
    np.testing.assert_allclose(expected.sum(axis=1), 1.0, rtol=1e-5)
    for same in (X[..., None], X.astype(np.float32), X.astype(np.float64), X.astype(">f4"), X.tolist()):
        np.testing.assert_array_equal(model.predict(same), expected)
    np.testing.assert_allclose(model.predict(X, batch_size=7), expected, rtol=1e-5)


def test_the_summary_counts_every_layer():
    model = Sequential([Conv2D(8, 3, trainable=False), MaxPooling2D(2), Flatten(), Dense(10)], name="digits")
    lines: list[str] = []
    model.summary(print_fn=lines.append)
    assert "not built" in lines[0]
    model.build((None, 28, 28, 1))
    model.summary(print_fn=lines.append)
    text = lines[1]
    rows = [
        r"conv2d \(Conv2D\) +│ \(None, 26, 26, 8\) +│ +80 ",
        r"dense \(Dense\) +│ \(None, 10\) +│ +13,530 ",
    ]
    totals = [
        r"Total params: 13,610 \(53.16 KB\)",
        r"Trainable params: 13,530",
        r"Non-trainable params: 80 \(320.00 B\)",
    ]
    for pattern in ['Model: "digits"', *rows, *totals]:
        assert re.search(pattern, text), pattern
    assert model.count_params() == 13_610


def test_arguments_that_change_nothing_here_are_accepted():
    model = small()
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True, jit_compile=False, loss_weights=None)
    model.fit(X / 255, Y, verbose=0, class_weight=None, validation_batch_size=7)


def test_set_weights_takes_what_get_weights_gives():
    one, two = small(seed=1), small(seed=2)
    one.predict(X)
    two.predict(X)
    two.set_weights(one.get_weights())
    np.testing.assert_array_equal(one.predict(X), two.predict(X))
    with pytest.raises(ArgumentError, match="got 3 arrays of weights; expected 4"):
        two.set_weights(one.get_weights()[:3])
    kernel, bias, dense, dense_bias = one.get_weights()
    with pytest.raises(ArgumentError, match=r"dense \(Dense\): kernel has shape \(4, 60\); expected \(60, 4\)"):
        two.set_weights([kernel, bias, dense.T, dense_bias])


def test_to_categorical_is_keras():
    np.testing.assert_array_equal(utils.to_categorical([0, 2]), [[1, 0, 0], [0, 0, 1]])
    assert utils.to_categorical(np.array([[1], [0]]), 2).tolist() == [[0, 1], [1, 0]]
    assert utils.to_categorical(np.zeros((2, 3), np.uint8), 5).shape == (2, 3, 5)
