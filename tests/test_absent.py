"""What people know from Keras and fastcnn has not: the error names it and what to use instead."""

from __future__ import annotations

import copy
import importlib
import pickle
import re

import numpy as np
import pytest

import fastcnn
from fastcnn import absent
from fastcnn.errors import AbsentError, ArgumentError, FastcnnError
from fastcnn.layers import Conv2D, Dense, RandomZoom

NAMES = [(module, name) for module, groups in absent.NAMES.items() for name in " ".join(groups.values()).split()]


def raised(statement):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is what the tests look at
        exec(statement, {"fastcnn": fastcnn})
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("statement", "name", "instead"),
    [
        ("from fastcnn.layers import SeparableConv2D", "SeparableConv2D", "Conv2D"),
        ("from fastcnn.layers import Conv2D, LSTM", "LSTM", "Keras or PyTorch"),
        ("fastcnn.layers.Concatenate()", "Concatenate", "Sequential"),
        ("from fastcnn import Model", "Model", "Sequential"),
        ("from fastcnn.models import Model", "Model", "Sequential"),
        ("fastcnn.models.model_from_json('{}')", "model_from_json", "load_model"),
        ("from fastcnn.preprocessing.image import ImageDataGenerator", "ImageDataGenerator", "RandomTranslation"),
        ("import fastcnn.preprocessing.image", "preprocessing", "RandomRotation"),
        ("from fastcnn.optimizers import Nadam", "Nadam", "Adam"),
        ("fastcnn.optimizers.Adagrad(0.01)", "Adagrad", "RMSprop"),
        ("from fastcnn.optimizers.legacy import SGD", "legacy", "fastcnn.optimizers"),
        ("fastcnn.optimizers.schedules.PolynomialDecay(1, 2)", "PolynomialDecay", "CosineDecay"),
        ("from fastcnn.callbacks import TensorBoard", "TensorBoard", "CSVLogger"),
        ("from fastcnn.datasets import cifar10", "cifar10", "load_idx_folder"),
        ("from fastcnn import regularizers", "regularizers", "weight_decay"),
        ("from fastcnn.regularizers import l2", "regularizers", "weight_decay"),
        ("fastcnn.metrics.Precision()", "metrics", "metrics=['accuracy']"),
        ("from fastcnn.utils import np_utils", "np_utils", "to_categorical"),
        ("from fastcnn.utils import plot_model", "plot_model", "summary"),
        ("from fastcnn.layers.convolutional import Conv2D", "convolutional", "fastcnn.layers"),
        ("from fastcnn.losses import BinaryCrossentropy", "BinaryCrossentropy", "SparseCategoricalCrossentropy"),
        ("from fastcnn.initializers import VarianceScaling", "VarianceScaling", "GlorotUniform"),
        ("from fastcnn import keras", "keras", "import fastcnn as keras"),
        ("from fastcnn.keras import layers", "keras", "import fastcnn as keras"),
        ("import fastcnn.nn as nn", "nn", "fastcnn.layers"),
        ("from fastcnn.layers import Linear", "Linear", "Dense"),
        ("import fastcnn.optim", "optim", "fastcnn.optimizers"),
    ],
)
def test_the_error_names_it_and_what_to_use_instead(statement, name, instead):
    problem = raised(statement)
    assert isinstance(problem, AbsentError)
    assert isinstance(problem, FastcnnError)
    assert isinstance(problem, ImportError)
    what, _, advice = str(problem).partition("; ")
    assert name in what or name in advice
    assert instead in advice


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Conv2D(8, 3, data_format="channels_first"), ["data_format='channels_first'", "transpose(0, 2, 3, 1)"]),
        (lambda: RandomZoom(0.1, data_format="channels_first"), ["RandomZoom", "transpose(0, 2, 3, 1)"]),
        (lambda: Dense(8, kernel_regularizer="l2"), ["kernel_regularizer='l2'", "weight_decay"]),
        (lambda: fastcnn.Sequential().compile("nadam"), ["'nadam'", "'adam'", "'rmsprop'"]),
        (lambda: fastcnn.Sequential().compile("adam", "binary_crossentropy"), ["'binary_crossentropy'", "Dense(2"]),
        (lambda: fastcnn.Sequential().compile("adam", "nonsense"), ["'nonsense'", "'categorical_crossentropy'"]),
        (lambda: fastcnn.Sequential().compile("adam", "mse", ["precision"]), ["'precision'", "'accuracy'"]),
    ],
)
def test_arguments_are_named_with_what_to_use_instead(make, words):
    with pytest.raises(ArgumentError) as caught:
        make()
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(("module", "name"), NAMES, ids=lambda value: value)
def test_nothing_that_is_here_is_called_absent(module, name):
    home = importlib.import_module(module)
    assert name not in vars(home)
    assert name not in getattr(home, "_HOME", ())
    with pytest.raises(AbsentError, match=f"{re.escape(module)} has no {name}; "):
        getattr(home, name)


@pytest.mark.parametrize("name", absent.MODULES)
def test_no_module_that_is_here_is_called_absent(name):
    parent, _, last = name.rpartition(".")
    with pytest.raises(AbsentError, match=f"{re.escape(parent)} has no {last}; "):
        importlib.import_module(name)


def test_advice_names_what_there_is():
    """Every word of it in capitals like a class is one of ours, or another library."""
    homes = [importlib.import_module(name) for name in absent.NAMES]
    advice = [instead for groups in absent.NAMES.values() for instead in groups] + list(absent.MODULES.values())
    classes = {word for text in advice for word in re.findall(r"\b[A-Z]\w*[a-z]\w*[A-Z]\w*|\b[A-Z][a-z]+2D", text)}
    assert len(classes) > 15
    ours = {word for word in classes for home in homes if word in dir(home)}
    assert classes - ours == {"PyTorch", "ImageDataGenerator", "DivergedError"}


@pytest.mark.parametrize("method", absent.METHODS)
def test_methods_that_models_lack(method):
    model = fastcnn.Sequential()
    assert not hasattr(model, method)
    with pytest.raises(AttributeError, match=rf"Sequential has no attribute '{method}'; (use|give|pass) "):
        getattr(model, method)


def test_models_are_not_called():
    with pytest.raises(ArgumentError, match=r"sequential: models aren't called here; use predict\(x\)"):
        fastcnn.Sequential()(np.ones((1, 3)))


def test_everything_else_is_a_plain_error():
    assert type(raised("fastcnn.layers.Conv9")) is AttributeError
    assert type(raised("from fastcnn.layers import Conv9")) is ImportError
    assert type(raised("import fastcnn.nothing")) is ModuleNotFoundError
    assert type(raised("fastcnn.Sequential().nothing")) is AttributeError
    assert not hasattr(fastcnn, "nothing")
    assert not hasattr(fastcnn.layers, "__wrapped__")


def test_models_can_still_be_copied():
    model = fastcnn.Sequential([Dense(2, input_dim=3)], seed=0, backend="im2col")
    x = np.ones((1, 3))
    for twin in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(twin.predict(x), model.predict(x))


# The imports and calls of Keras' own MNIST example as it stood for years, in our own words, on few images.
EXAMPLE = """
import keras
from keras import backend as K
from keras.datasets import mnist
from keras.layers import Conv2D, Dense, Dropout, Flatten, MaxPool2D
from keras.models import Sequential

(x_train, y_train), (x_test, y_test) = mnist.load_data()
x_train, y_train, x_test, y_test = x_train[:300], y_train[:300], x_test[:100], y_test[:100]
if K.image_data_format() == "channels_first":
    shape = (1, 28, 28)
else:
    shape = (28, 28, 1)
x_train, x_test = x_train.reshape(-1, *shape), x_test.reshape(-1, *shape)
x_train, x_test = x_train.astype(K.floatx()) / 255, x_test.astype(K.floatx()) / 255
y_train, y_test = keras.utils.to_categorical(y_train, 10), keras.utils.to_categorical(y_test, 10)

model = Sequential()
model.add(Conv2D(4, kernel_size=(3, 3), activation="relu", input_shape=shape))
model.add(Conv2D(8, (3, 3), activation="relu"))
model.add(MaxPool2D(pool_size=(2, 2)))
model.add(Dropout(0.25))
model.add(Flatten())
model.add(Dense(16, activation="relu"))
model.add(Dropout(0.5))
model.add(Dense(10, activation="softmax"))
model.compile(
    loss=keras.losses.categorical_crossentropy,
    optimizer=keras.optimizers.Adadelta(),
    metrics=["accuracy"],
)
history = model.fit(x_train, y_train, batch_size=128, epochs=2, verbose=0, validation_data=(x_test, y_test))
score = model.evaluate(x_test, y_test, verbose=0)
K.clear_session()
"""


def test_keras_own_example_runs_with_its_backend_module():
    names: dict[str, object] = {}
    exec(EXAMPLE.replace("keras", "fastcnn"), names)
    assert names["shape"] == (28, 28, 1)
    assert names["x_train"].dtype == np.float32
    assert names["score"] == [pytest.approx(names["history"].history[key][-1]) for key in ("val_loss", "val_accuracy")]
    assert names["K"].epsilon() == names["model"].optimizer.epsilon
