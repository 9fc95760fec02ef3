"""Scripts in the styles people publish for Keras run, on few images, when `keras` is replaced by `fastcnn`."""

from __future__ import annotations

import re

import pytest

from fastcnn.errors import ArgumentError

CONVNET = """
import numpy as np
import keras
from keras import layers

classes = 10
shape = (28, 28, 1)
(train_x, train_y), (test_x, test_y) = keras.datasets.mnist.load_data()
train_x, train_y, test_x, test_y = train_x[:600], train_y[:600], test_x[:200], test_y[:200]
train_x = train_x.astype("float32") / 255
test_x = test_x.astype("float32") / 255
train_x = np.expand_dims(train_x, -1)
test_x = np.expand_dims(test_x, -1)
train_y = keras.utils.to_categorical(train_y, classes)
test_y = keras.utils.to_categorical(test_y, classes)
model = keras.Sequential(
    [
        keras.Input(shape=shape),
        layers.Conv2D(32, kernel_size=(3, 3), activation="relu"),
        layers.MaxPooling2D(pool_size=(2, 2)),
        layers.Conv2D(64, kernel_size=(3, 3), activation="relu"),
        layers.MaxPooling2D(pool_size=(2, 2)),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(classes, activation="softmax"),
    ]
)
model.summary()
model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
history = model.fit(train_x, train_y, batch_size=128, epochs=2, validation_split=0.1)
score = model.evaluate(test_x, test_y, verbose=0)
print("Test loss:", score[0])
print("Test accuracy:", score[1])
"""

#: Of the years when a backend was asked for its layout.
OLD_CONVNET = """
from __future__ import print_function
import keras
from keras.datasets import mnist
from keras.models import Sequential
from keras.layers import Dense, Dropout, Flatten
from keras.layers import Conv2D, MaxPooling2D
from keras import backend as K

batch_size = 128
classes = 10
epochs = 1
rows, columns = 28, 28
(train_x, train_y), (test_x, test_y) = mnist.load_data()
train_x, train_y, test_x, test_y = train_x[:300], train_y[:300], test_x[:100], test_y[:100]
if K.image_data_format() == 'channels_first':
    train_x = train_x.reshape(train_x.shape[0], 1, rows, columns)
    shape = (1, rows, columns)
else:
    train_x = train_x.reshape(train_x.shape[0], rows, columns, 1)
    test_x = test_x.reshape(test_x.shape[0], rows, columns, 1)
    shape = (rows, columns, 1)
train_x = train_x.astype('float32')
test_x = test_x.astype('float32')
train_x /= 255
test_x /= 255
train_y = keras.utils.to_categorical(train_y, classes)
test_y = keras.utils.to_categorical(test_y, classes)
model = Sequential()
model.add(Conv2D(32, kernel_size=(3, 3), activation='relu', input_shape=shape))
model.add(Conv2D(64, (3, 3), activation='relu'))
model.add(MaxPooling2D(pool_size=(2, 2)))
model.add(Dropout(0.25))
model.add(Flatten())
model.add(Dense(128, activation='relu'))
model.add(Dropout(0.5))
model.add(Dense(classes, activation='softmax'))
model.compile(loss=keras.losses.categorical_crossentropy, optimizer=keras.optimizers.Adadelta(), metrics=['accuracy'])
model.fit(train_x, train_y, batch_size=batch_size, epochs=epochs, verbose=1, validation_data=(test_x, test_y))
score = model.evaluate(test_x, test_y, verbose=0)
"""

COLOUR_IMAGES = """
import numpy as np
from keras import datasets, layers, models
import keras
rng = np.random.default_rng(0)
photos = rng.random((128, 32, 32, 3)).astype("float32")
kinds = rng.integers(0, 10, (128, 1))
model = models.Sequential()
model.add(layers.Conv2D(32, (3, 3), activation='relu', input_shape=(32, 32, 3)))
model.add(layers.MaxPooling2D((2, 2)))
model.add(layers.Conv2D(64, (3, 3), activation='relu'))
model.add(layers.MaxPooling2D((2, 2)))
model.add(layers.Conv2D(64, (3, 3), activation='relu'))
model.summary()
model.add(layers.Flatten())
model.add(layers.Dense(64, activation='relu'))
model.add(layers.Dense(10))
model.summary()
model.compile(optimizer='adam', loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=['accuracy'])
history = model.fit(photos, kinds, epochs=1, validation_data=(photos[:20], kinds[:20]))
print(history.history['accuracy'], history.history['val_accuracy'])
test_loss, test_acc = model.evaluate(photos, kinds, verbose=2)
"""

FUNCTIONAL = """
import keras
from keras import layers
inputs = keras.Input(shape=(28, 28, 1))
x = layers.Conv2D(32, 3, activation="relu")(inputs)
outputs = layers.Dense(10)(layers.Flatten()(x))
model = keras.Model(inputs=inputs, outputs=outputs)
"""


@pytest.mark.parametrize("script", [CONVNET, OLD_CONVNET, COLOUR_IMAGES], ids=["convnet", "old", "colour"])
def test_the_script_runs(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    exec(re.sub(r"\bkeras\b", "fastcnn", script), names)
    assert all(layer.built for layer in names["model"].layers)
    assert "val_accuracy: " in capsys.readouterr().out


def test_functional_style_is_refused_in_a_line() -> None:
    with pytest.raises(ArgumentError, match=r"Conv2D: layers aren't called here; give them to Sequential, in order"):
        exec(re.sub(r"\bkeras\b", "fastcnn", FUNCTIONAL), {})
