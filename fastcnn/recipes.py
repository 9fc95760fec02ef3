"""Named training runs: a network, how to train it, and the figures that others published for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcnn import arguments, utils
from fastcnn.callbacks import Callback, SwapEMAWeights
from fastcnn.errors import ArgumentError
from fastcnn.initializers import RandomNormal
from fastcnn.layers import Conv2D, Dense, Dropout, Flatten, Layer, MaxPooling2D, ReLU, Rescaling
from fastcnn.layers.base import Shape
from fastcnn.models import Sequential
from fastcnn.optimizers import SGD, Adadelta, Adam, Optimizer
from fastcnn.optimizers.schedules import OneCycle
from fastcnn.training import History

Images = NDArray[Any]
Dataset = tuple[Images, NDArray[Any]]


@dataclass(frozen=True)
class Published:
    """What others reported for a recipe's network, and how long their step takes.

    Attributes:
        source: whose figure it is.
        setting: how it was trained.
        accuracy: on the test images, from 0 to 1, or None.
        microseconds_per_step: measured for fastcnn on a machine with 2 cores, not published; or None.
    """

    source: str
    setting: str
    accuracy: float | None
    microseconds_per_step: float | None


TUTORIAL = Published("the tutorial's numpy loops", "1,000 images, 3 epochs, batch size 1", 0.78, 15_000.0)
KERAS = Published("the tutorial's Keras script", "60,000 images, 3 epochs, batch size 1", 0.974, None)
KERAS_EXAMPLE = Published("Keras' MNIST example", "60,000 images, 12 epochs, batch size 128", 0.9925, None)
FAST_ON_A_GPU = Published("train_mnist_fast on a GPU", "60,000 images, 1 epoch, batch size 256", 0.9904, None)

#: Training images of MNIST: how many a schedule expects unless it is told.
MNIST_IMAGES = 60_000
#: Mean and standard deviation of MNIST's training pixels, scaled to 0 .. 1.
PIXEL_MEAN, PIXEL_DEVIATION = 0.1307, 0.3081


def _sgd(learning_rate: float, steps: int) -> Optimizer:
    return SGD(learning_rate)


def _adadelta(learning_rate: float, steps: int) -> Optimizer:
    """With the rest of Keras' defaults, rho 0.95 and epsilon 1e-7; the weights averaged over a twelfth of the steps.

    Twelve epochs at one and the same learning rate end at 99.12% on average, wherever the last steps lead; the average
    over about the last epoch, at 99.25%.
    """
    return Adadelta(learning_rate, use_ema=True, ema_momentum=max(0.0, 1 - 12 / steps))


def _adam_one_cycle(learning_rate: float, steps: int) -> Optimizer:
    return Adam(OneCycle(learning_rate, max(steps, 2), warmup_fraction=0.2), beta_1=0.7, beta_2=0.9)


@dataclass(frozen=True)
class Recipe:
    """A named training run.

    Attributes:
        name, description: for the user.
        layers: makes the layers for an input shape (height, width, channels) and a number of classes.
        published: figures to hold ours against.
        epochs, batch_size, learning_rate: what is used unless the user says otherwise.
        optimizer: makes the optimizer, for a learning rate (the highest where it follows a schedule) and the
            number of steps of the whole training.
        loss: the name of a loss that takes whole-number labels.
    """

    name: str
    description: str
    layers: Callable[[Shape, int], list[Layer]]
    published: tuple[Published, ...] = (TUTORIAL, KERAS)
    epochs: int = 3
    batch_size: int = 1
    learning_rate: float = 0.005
    optimizer: Callable[[float, int], Optimizer] = _sgd
    loss: str = "sparse_categorical_crossentropy"

    def steps(self, images: int, epochs: int | None = None, batch_size: int | None = None) -> int:
        """Steps of a training with so many images; None for the recipe's."""
        return -(-images // (batch_size or self.batch_size)) * (epochs or self.epochs)


@dataclass
class RunResult:
    """What `train` returns.

    Attributes:
        recipe, model, history: what was trained, the trained model and its figures.
        backend, seed, threads: how; threads is None where numpy's BLAS decides.
        n_train, n_test: images.
        batch_size: images a step.
        seconds: ``compile``, ``train`` and ``test``, each the whole run's.
    """

    recipe: Recipe
    model: Sequential
    history: History
    backend: str
    seed: int
    threads: int | None
    n_train: int
    n_test: int
    batch_size: int
    seconds: dict[str, float]

    @property
    def images_per_second(self) -> float:
        """Training images a second."""
        return self.n_train * len(self.history.epoch) / self.seconds["train"]

    @property
    def microseconds_per_step(self) -> float:
        """The mean time of a training step."""
        steps = self.recipe.steps(self.n_train, len(self.history.epoch), self.batch_size)
        return self.seconds["train"] / steps * 1e6

    def epochs(self) -> list[dict[str, float]]:
        """A dict an epoch: ``epoch`` from 1, the figures by `fit`'s names, ``seconds`` of training."""
        figures = self.history.history
        return [
            {
                "epoch": number + 1,
                **{name: values[row] for name, values in figures.items()},
                "seconds": self.history.seconds[row],
            }
            for row, number in enumerate(self.history.epoch)
        ]

    def as_dict(self) -> dict[str, Any]:
        """The run, fit for JSON."""
        return {
            "recipe": self.recipe.name,
            "backend": self.backend,
            "seed": self.seed,
            "threads": self.threads,
            "n_train": self.n_train,
            "n_test": self.n_test,
            "seconds": self.seconds,
            "epochs": self.epochs(),
        }


def _blog(shape: Shape, classes: int, learns: bool = True) -> list[Layer]:
    """The tutorial's network from its own initial values: randn/9, randn/inputs, zeros."""
    inputs = ((shape[0] - 2) // 2) * ((shape[1] - 2) // 2) * 8
    return [
        Rescaling(1 / 255, -0.5),
        Conv2D(8, 3, use_bias=False, kernel_initializer=RandomNormal(stddev=1 / 9), trainable=learns),
        MaxPooling2D(2, ties="all"),
        Flatten(),
        Dense(classes, activation="softmax", kernel_initializer=RandomNormal(stddev=1 / max(inputs, 1))),
    ]


def _blog_softmax(shape: Shape, classes: int) -> list[Layer]:
    return _blog(shape, classes, learns=False)


def _blog_keras(shape: Shape, classes: int) -> list[Layer]:
    return [
        Rescaling(1 / 255, -0.5),
        Conv2D(8, 3),
        MaxPooling2D(2),
        Flatten(),
        Dense(classes, activation="softmax"),
    ]


def _keras_convnet(shape: Shape, classes: int) -> list[Layer]:
    """Keras' own MNIST example. Its pixels are scaled to 0 .. 1 and its initial values Glorot's, uniform."""
    return [
        Rescaling(1 / 255),
        Conv2D(32, 3, activation="relu"),
        Conv2D(64, 3, activation="relu"),
        MaxPooling2D(2),
        Dropout(0.25),
        Flatten(),
        Dense(128, activation="relu"),
        Dropout(0.5),
        Dense(classes, activation="softmax"),
    ]


def _small_convnet(shape: Shape, classes: int) -> list[Layer]:
    """The network that https://github.com/tuomaso/train_mnist_fast found by search; it pools before ReLU."""
    return [
        Rescaling(1 / 255 / PIXEL_DEVIATION, -PIXEL_MEAN / PIXEL_DEVIATION),
        Conv2D(24, 5),
        MaxPooling2D(2),
        ReLU(),
        Conv2D(32, 3),
        MaxPooling2D(2),
        ReLU(),
        Flatten(),
        Dense(256, activation="relu"),
        Dense(classes, activation="softmax"),
    ]


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("blog", "the tutorial's network, from its initial values, with its rule for ties", _blog),
        Recipe("blog-softmax", "the same, but only the softmax layer learns", _blog_softmax),
        Recipe("blog-keras", "its Keras twin: Glorot's initial values, a bias, the first of ties", _blog_keras),
        Recipe(
            "keras-convnet",
            "Keras' own example: two convolutions, dropout, Adadelta; and the weights averaged",
            _keras_convnet,
            (KERAS_EXAMPLE,),
            epochs=12,
            batch_size=128,
            learning_rate=1.0,
            optimizer=_adadelta,
        ),
        Recipe(
            "small-convnet",
            "two small convolutions, Adam, one cycle of the learning rate: 99% after one epoch",
            _small_convnet,
            (FAST_ON_A_GPU,),
            epochs=1,
            batch_size=256,
            learning_rate=0.01,
            optimizer=_adam_one_cycle,
        ),
    )
}


def get(recipe: str | Recipe) -> Recipe:
    """The recipe of that name, or itself.

    Raises:
        ArgumentError: there is none of that name.
    """
    if isinstance(recipe, Recipe):
        return recipe
    return RECIPES[arguments.choice("recipe", recipe, RECIPES)]


def build_model(
    recipe: str | Recipe,
    input_shape: Shape = (28, 28, 1),
    classes: int = 10,
    *,
    seed: int | None = None,
    backend: str = "numba",
    learning_rate: float | None = None,
    steps: int | None = None,
) -> Sequential:
    """A recipe's network, built and compiled for whole-number labels, not trained.

    Args:
        recipe: its name, or one's own.
        input_shape: (height, width, channels) of an image.
        classes: how many.
        seed, backend: as for `Sequential`.
        learning_rate: None for the recipe's.
        steps: those of the whole training, for a learning rate that follows a schedule; None for as many as the
            recipe takes on MNIST.

    Raises:
        ArgumentError: an argument is not available, or the images are too small for the network.
    """
    recipe = get(recipe)
    model = Sequential(backend=backend, seed=seed, name=recipe.name)
    for layer in recipe.layers(input_shape, classes):
        model.add(layer)
    model.build((None, *input_shape))
    rate = recipe.learning_rate if learning_rate is None else learning_rate
    steps = recipe.steps(MNIST_IMAGES) if steps is None else arguments.integer("steps", steps)
    model.compile(recipe.optimizer(rate, steps), recipe.loss, ["accuracy"])
    return model


def train(
    recipe: str | Recipe,
    data: tuple[Dataset, Dataset],
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    limit: int | None = None,
    seed: int | None = None,
    backend: str = "numba",
    callbacks: Sequence[Callback] = (),
) -> RunResult:
    """Train a recipe; print nothing.

    Args:
        recipe: its name, or one's own.
        data: ((images, labels), (test images, test labels)); images (N, height, width), perhaps with
            channels behind, pixels from 0 to 255; labels whole numbers from 0. The test images are evaluated
            after every epoch, with the averages of the weights where the recipe's optimizer keeps them.
        epochs, batch_size, learning_rate: None for the recipe's.
        limit: keep the first `limit` training and the first `limit` test images; None for all. The number of
            classes is that of all the labels.
        seed, backend: as for `Sequential`.
        callbacks: told of the progress.

    Raises:
        ArgumentError: an argument or the data are not what they should be.
        DivergedError: a loss is not finite.
    """
    recipe = get(recipe)
    (x, y), (x_test, y_test) = ((_with_channels(images), labels) for images, labels in data)
    if not len(y) or not len(y_test):
        raise ArgumentError("data: expected at least one training and one test image")
    if limit is not None:
        arguments.integer("limit", limit)
    epochs = recipe.epochs if epochs is None else arguments.integer("epochs", epochs)
    size = recipe.batch_size if batch_size is None else arguments.integer("batch_size", batch_size)
    classes = int(max(y.max(), y_test.max())) + 1
    x, y, x_test, y_test = x[:limit], y[:limit], x_test[:limit], y_test[:limit]
    steps = recipe.steps(len(x), epochs, size)
    model = build_model(
        recipe, x.shape[1:], classes, seed=seed, backend=backend, learning_rate=learning_rate, steps=steps
    )
    averages = [SwapEMAWeights()] if model.optimizer and model.optimizer.use_ema else []
    history = model.fit(
        x,
        y,
        batch_size=size,
        epochs=epochs,
        verbose=0,
        callbacks=[*averages, *callbacks],
        validation_data=(x_test, y_test),
    )
    seconds = {
        "compile": history.compile_seconds,
        "train": sum(history.seconds),
        "test": sum(history.test_seconds),
    }
    threads = {"numba": utils.get_threads, "reference": lambda: 1}.get(backend, lambda: None)()
    return RunResult(recipe, model, history, backend, model.seed, threads, len(x), len(x_test), size, seconds)


def _with_channels(images: Images) -> Images:
    if images.ndim not in (3, 4):
        expected = "(N, height, width) or (N, height, width, channels)"
        raise ArgumentError(f"data: images have shape {images.shape}; expected {expected}")
    return np.asarray(images)[..., None] if images.ndim == 3 else images
