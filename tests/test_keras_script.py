"""A script as people write them for Keras' Sequential API runs after `keras` is replaced by `fastcnn`."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
from fastcnn.callbacks import Callback

# The imports and calls of the tutorial's Keras version, in our own words, on the first digits only.
SCRIPT = """
import numpy as np
from keras.datasets import mnist
from keras.models import Sequential
from keras.layers import Conv2D, MaxPooling2D, Dense, Flatten
from keras.utils import to_categorical
from keras.optimizers import SGD

train_images = mnist.train_images()[:1000]
train_labels = mnist.train_labels()[:1000]
test_images = mnist.test_images()[:1000]
test_labels = mnist.test_labels()[:1000]

train_images = (train_images / 255) - 0.5
test_images = (test_images / 255) - 0.5
train_images = np.expand_dims(train_images, axis=3)
test_images = np.expand_dims(test_images, axis=3)

model = Sequential([
    Conv2D(8, 3, input_shape=(28, 28, 1), use_bias=False),
    MaxPooling2D(pool_size=2),
    Flatten(),
    Dense(10, activation='softmax'),
])
model.compile(SGD(lr=.005), loss='categorical_crossentropy', metrics=['accuracy'])
history = model.fit(
    train_images,
    to_categorical(train_labels),
    batch_size=1,
    epochs=3,
    validation_data=(test_images, to_categorical(test_labels)),
)
model.save_weights('cnn.h5')

again = Sequential([
    Conv2D(8, 3, input_shape=(28, 28, 1), use_bias=False),
    MaxPooling2D(pool_size=2),
    Flatten(),
    Dense(10, activation='softmax'),
])
again.load_weights('cnn.h5')
predictions = again.predict(test_images[:5])
guesses = np.argmax(predictions, axis=1)
"""


@pytest.mark.filterwarnings("ignore:.*safetensors format:UserWarning")
def test_the_script_runs_and_learns(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    fastcnn.utils.set_random_seed(0)
    exec(SCRIPT.replace("keras", "fastcnn"), names)
    history = names["history"].history
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert all(len(values) == 3 for values in history.values())
    assert 0.70 < history["val_accuracy"][-1] < 0.95
    assert names["model"].count_params() == 72 + 13_530
    np.testing.assert_array_equal(names["predictions"], names["model"].predict(names["test_images"][:5]))
    assert (names["guesses"] == names["test_labels"][:5]).sum() >= 3
    printed = capsys.readouterr().out
    assert "Epoch 3/3" in printed
    assert "1000/1000" in printed
    assert "val_accuracy: " in printed


def test_the_script_takes_the_fused_path():
    script = SCRIPT[: SCRIPT.index("history =")].replace("keras", "fastcnn")
    names: dict[str, object] = {}
    exec(script, names)
    model = names["model"]
    assert isinstance(model._make_plan(model.optimizer), fastcnn.stages.FusedPlan)


def test_other_ways_people_write_it():
    x = np.random.default_rng(0).random((30, 8, 8, 1), np.float32)
    y = fastcnn.utils.to_categorical(np.arange(30) % 3)
    seen = []

    class Watch(Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append((epoch, logs["acc"]))

    model = fastcnn.Sequential(backend="im2col")
    model.add(fastcnn.Input(shape=(8, 8, 1)))
    model.add(fastcnn.layers.Conv2D(4, (3, 3), padding="valid", strides=(1, 1), name="eyes"))
    model.add(fastcnn.layers.MaxPooling2D((2, 2)))
    model.add(fastcnn.layers.Flatten())
    model.add(fastcnn.layers.Dense(3, activation="softmax"))
    optimizer = fastcnn.optimizers.SGD(learning_rate=0.1, momentum=0.9, nesterov=True)
    model.compile(loss=fastcnn.losses.CategoricalCrossentropy(), optimizer=optimizer, metrics=["acc"])
    model.fit(x, y, 10, 2, 0, [Watch()], 0.2)
    assert [epoch for epoch, _ in seen] == [0, 1]
    score = model.evaluate(x, y, verbose=0)
    assert len(score) == 2
    assert model.predict(x).argmax(axis=-1).shape == (30,)


# A deeper network as such scripts have it, in our own words, on random images.
DEEPER = """
import numpy as np
from keras import Input, Sequential
from keras.callbacks import EarlyStopping, LearningRateScheduler, ReduceLROnPlateau
from keras.layers import Activation, BatchNormalization, Conv2D, Dense, Dropout, Flatten, MaxPooling2D
from keras.losses import CategoricalCrossentropy
from keras.optimizers import Adam
from keras.optimizers.schedules import ExponentialDecay
from keras.utils import to_categorical

draws = np.random.default_rng(0)
x = draws.random((60, 12, 12, 3)).astype("float32")
labels = draws.integers(0, 4, 60)
x[np.arange(60), labels * 3] += 1
y = to_categorical(labels, 4)

model = Sequential([Input(shape=(12, 12, 3))], backend="im2col", seed=0)
model.add(Conv2D(8, (3, 3), padding="same", activation="relu", kernel_initializer="he_uniform"))
model.add(BatchNormalization())
model.add(Conv2D(8, (3, 3), strides=2))
model.add(Activation("relu"))
model.add(MaxPooling2D((2, 2), strides=2, padding="same"))
model.add(Dropout(0.25))
model.add(Flatten())
model.add(Dense(32, activation="relu"))
model.add(Dropout(0.5))
model.add(Dense(4, activation="softmax"))
model.compile(
    optimizer=Adam(learning_rate=ExponentialDecay(0.01, 20, 0.9), clipnorm=5.0),
    loss=CategoricalCrossentropy(label_smoothing=0.1),
    metrics=["accuracy"],
)
history = model.fit(
    x, y, batch_size=10, epochs=25, verbose=0, validation_split=0.2, callbacks=[EarlyStopping(patience=25)]
)
model.compile("adadelta", "categorical_crossentropy", ["accuracy"])
again = model.fit(
    x, y, batch_size=10, epochs=2, verbose=0, class_weight={0: 1.0, 1: 2.0},
    callbacks=[LearningRateScheduler(lambda epoch: 0.01), ReduceLROnPlateau("loss")],
)
score = model.evaluate(x, y, verbose=0)
"""


def test_a_deeper_script_runs_and_learns():
    names: dict[str, object] = {}
    exec(DEEPER.replace("keras", "fastcnn"), names)
    history = names["history"].history
    assert len(history["val_loss"]) == 25
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    assert names["score"][1] > 0.8
    assert names["again"].history["learning_rate"] == [0.01, 0.01]
