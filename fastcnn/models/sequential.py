"""Sequential: a stack of layers with Keras' face. It checks what it gets; training and stages do the rest."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from typing import Any, Literal

from numpy.typing import ArrayLike, NDArray
from rich.console import Console

from fastcnn import arguments, losses, optimizers, stages, training
from fastcnn.callbacks import Callback, CallbackList, ProgressBar, report, verbose_level
from fastcnn.errors import ArgumentError, FastcnnError, ModelFileError
from fastcnn.layers import LAYERS, Layer
from fastcnn.layers.base import Array
from fastcnn.losses import Loss
from fastcnn.models import inputs, saving
from fastcnn.models.stack import Stack
from fastcnn.optimizers import Optimizer
from fastcnn.training import History, Samples, Settings

#: All of them mean the share of samples whose most probable class is the label.
ACCURACIES = ("accuracy", "acc", "categorical_accuracy", "sparse_categorical_accuracy")

_NEUTRAL_COMPILE: dict[str, tuple[Any, ...] | None] = {
    "loss_weights": (None,),
    "weighted_metrics": (None,),
    "run_eagerly": None,
    "steps_per_execution": None,
    "jit_compile": None,
}
_NEUTRAL_FIT: dict[str, tuple[Any, ...] | None] = {
    "class_weight": (None,),
    "sample_weight": (None,),
    "steps_per_epoch": (None,),
    "validation_steps": (None,),
    "validation_batch_size": None,
    "validation_freq": (1,),
}


class Sequential(Stack):
    """A stack of layers, each fed with what the one before gives.

    Args:
        layers: in order. The first may be `Input(shape)` or carry `input_shape`; otherwise
            `fit` takes it from `x`.
        backend: ``"numba"``, ``"im2col"`` or ``"reference"``: which implementation runs the layers.
        dtype: what weights are kept in; ``"float64"`` is for im2col and reference. None: the backend's own.
        seed: fixes initial weights and the order of samples, bit for bit. None: after `utils.set_random_seed`
            the next of its seeds, else a fresh one; the attribute `seed` tells.
        name: only for display.

    Raises:
        ArgumentError: an argument is not available, or a layer doesn't fit the one before.
    """

    def __init__(
        self,
        layers: Sequence[Layer] | None = None,
        *,
        backend: str = "numba",
        dtype: str | None = None,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        self._plan: stages.Plan | None = None
        self._fused = True
        self._accuracies: tuple[str, ...] = ()
        self.stop_training = False
        self.optimizer: Optimizer | None = None
        self.loss: Loss | None = None
        super().__init__(layers, backend, dtype, seed, name)

    def changed(self) -> None:
        self._plan = None

    def compile(
        self,
        optimizer: str | Optimizer | dict[str, Any] = "sgd",
        loss: str | Loss | dict[str, Any] | None = None,
        metrics: Sequence[str] | str | None = None,
        *,
        fused: bool = True,
        **unknown: Any,
    ) -> None:
        """Say how to train.

        Args:
            optimizer: a name or an object from `fastcnn.optimizers`.
            loss: a name or an object from `fastcnn.losses`.
            metrics: ``["accuracy"]`` or None.
            fused: False makes the tutorial's network run layer by layer instead of as one function.

        Raises:
            ArgumentError: one of them is unknown.
        """
        arguments.refuse("compile", unknown, self.compile, _NEUTRAL_COMPILE)
        names = [metrics] if isinstance(metrics, str) else list(metrics or ())
        chosen = optimizers.get(optimizer), None if loss is None else losses.get(loss)
        self._accuracies = tuple(arguments.choice("metrics", name, ACCURACIES) for name in names)
        self.optimizer, self.loss = chosen
        self._fused = arguments.flag("fused", fused)
        self._plan = None

    def fit(
        self,
        x: ArrayLike,
        y: ArrayLike,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | Literal["auto"] = "auto",
        callbacks: Sequence[Callback] | None = None,
        validation_split: float = 0.0,
        validation_data: tuple[ArrayLike, ArrayLike] | None = None,
        shuffle: bool = True,
        initial_epoch: int = 0,
        **unknown: Any,
    ) -> History:
        """Train.

        Args:
            x: images (N, height, width, channels), or (N, height, width) where there is one
                channel; any number type.
            y: what the loss takes: one-hot rows (N, classes) or whole numbers (N,).
            batch_size: samples a step; 32 by default.
            epochs: the number of the last epoch.
            verbose: 0 silent, 1 a progress bar, 2 a line an epoch, ``"auto"`` 1 in a terminal and else 2.
            callbacks: instances of `fastcnn.callbacks.Callback`.
            validation_split: the share of samples, the last ones, that are kept for validation.
            validation_data: `x` and `y` to evaluate after each epoch.
            shuffle: whether each epoch visits the samples in a new order.
            initial_epoch: how many epochs went before.

        Returns:
            The figures of every epoch, ``val_*`` those of the validation.

        Raises:
            ArgumentError: an argument is not what it should be; nothing was trained.
            DivergedError: a loss is not finite.
        """
        arguments.refuse("fit", unknown, self.fit, _NEUTRAL_FIT)
        optimizer = self._compiled()
        epochs = arguments.integer("epochs", epochs)
        initial_epoch = arguments.integer("initial_epoch", initial_epoch, least=0)
        size = 32 if batch_size is None else arguments.integer("batch_size", batch_size)
        shuffler = self._shuffler if arguments.flag("shuffle", shuffle) else None
        watchers = list(callbacks or ())
        console = Console()
        if level := verbose_level(verbose, console):
            watchers.append(ProgressBar(level, console))
        samples = self._samples(x, y)
        validation: Samples | None = None
        if validation_data is not None:
            if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
                raise ArgumentError("validation_data: expected a pair (x, y)")
            validation = self._samples(*validation_data, prefix="validation_data: ")
        elif validation_split:
            samples, validation = inputs.split(samples, validation_split)
        plan = self._make_plan(optimizer)
        samples = Samples(plan.prepare(samples.images), samples.labels)
        if validation is not None:
            validation = Samples(plan.prepare(validation.images), validation.labels)
        steps = math.ceil(len(samples) / size)
        params = {"epochs": epochs, "steps": steps, "samples": len(samples), "batch_size": size}
        self.stop_training = False
        told = CallbackList(watchers, self, params)
        settings = Settings(size, epochs, initial_epoch, shuffler, self._accuracies)
        return training.fit(plan, optimizer, samples, validation, settings, told)

    def evaluate(
        self,
        x: ArrayLike,
        y: ArrayLike,
        batch_size: int | None = None,
        verbose: int | Literal["auto"] = "auto",
        return_dict: bool = False,
    ) -> Any:
        """The mean loss, and the accuracy if `compile` was asked for it.

        Args:
            x, y: as for `fit`.
            batch_size: samples that run together; by default what is quick.
            verbose: 0 is silent, else one line is printed.
            return_dict: whether to return the figures by name.

        Returns:
            A list [loss, accuracy], or just the loss if there are no metrics, or a dict.

        Raises:
            ArgumentError: an argument is not what it should be.
        """
        self._compiled()
        size = None if batch_size is None else arguments.integer("batch_size", batch_size)
        console = Console()
        level = verbose_level(verbose, console)
        samples = self._samples(x, y)
        begun = time.perf_counter()
        plan = self._inference_plan()
        samples = Samples(plan.prepare(samples.images), samples.labels)
        figures = training.evaluate(plan, samples, size, self._accuracies)
        if level:
            steps, seconds = math.ceil(len(samples) / (size or 32)), time.perf_counter() - begun
            line = report(steps, seconds, figures, bar=level == 1)
            console.print(line, highlight=False, soft_wrap=True)
        if return_dict:
            return figures
        return list(figures.values()) if len(figures) > 1 else figures["loss"]

    def predict(
        self, x: ArrayLike, batch_size: int | None = None, verbose: int | Literal["auto"] = "auto"
    ) -> NDArray[Any]:
        """The model's outputs for `x`, (N, classes) after a softmax layer: the probabilities.

        Args:
            x: as for `fit`, at least one image.
            batch_size: samples that run together; by default what is quick.
            verbose: nothing is printed whatever it says.

        Raises:
            ArgumentError: an argument is not what it should be.
        """
        size = None if batch_size is None else arguments.integer("batch_size", batch_size)
        images = self._images(x)
        plan = self._inference_plan()
        return plan.predict(plan.prepare(images), size)

    def _compiled(self) -> Optimizer:
        if self.optimizer is None or self.loss is None:
            raise ArgumentError("the model has no optimizer and loss yet; call compile(optimizer, loss) first")
        return self.optimizer

    def _make_plan(self, optimizer: Optimizer | None = None) -> stages.Plan:
        fused = stages.fused_plan(self._layers, self.backend, optimizer) if self._fused else None
        return fused or stages.plan(self._layers, self.backend, self.dtype)

    def _inference_plan(self) -> stages.Plan:
        if self._plan is None:
            self._plan = self._make_plan()
        return self._plan

    def _images(self, x: ArrayLike, prefix: str = "") -> Array:
        if not self._layers:
            raise ArgumentError("the model has no layers; add() some first")
        images = inputs.numbers(x, prefix)
        if not self.built:
            self.build(inputs.infer_shape(images, self._layers))
        return inputs.fit_shape(images, self._shape(), prefix)

    def _samples(self, x: ArrayLike, y: ArrayLike, prefix: str = "") -> Samples:
        assert self.loss is not None
        images = self._images(x, prefix)
        inputs.check_loss(self.loss, self._layers)
        try:
            labels = self.loss.labels(y, len(images), self._layers[-1].output_shape[0])
        except ArgumentError as problem:
            raise ArgumentError(f"{prefix}{problem}") from None
        return Samples(images, labels)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write architecture, weights, optimizer (without its state), loss and metrics to a safetensors file.

        Raises:
            ArgumentError: the model is not built.
            ModelFileError: the file can't be written; what stood there before still stands.
        """
        weights = {f"{layer.name}.{p.name}": p.value for layer in self._layers for p in layer.parameters.values()}
        training_ = None
        if self.optimizer is not None and self.loss is not None:
            training_ = {
                "optimizer": optimizers.serialize(self.optimizer),
                "loss": losses.serialize(self.loss),
                "metrics": list(self._accuracies),
            }
        description = {"model": self.get_config(), "weights": list(weights), "compile": training_}
        saving.write_file(path, description, weights)

    def save_weights(self, path: str | os.PathLike[str]) -> None:
        """The same as `save`: a safetensors file, the architecture beside the weights, whatever its name."""
        self.save(path)

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Overwrite all weights with those of a file that `save` or `save_weights` wrote.

        Raises:
            ModelFileError: the file can't be read, or holds other shapes; nothing changes then.
        """
        description, arrays = saving.read_file(path)
        try:
            self.set_weights([arrays[name] for name in description["weights"]])
        except (FastcnnError, KeyError, TypeError) as problem:
            raise ModelFileError(f"{path}: does not fit this model ({problem})") from None


def load_model(path: str | os.PathLike[str], *, backend: str = "numba") -> Sequential:
    """The model in a file that `Sequential.save` wrote, compiled as it was.

    Args:
        path: the file.
        backend: what the model shall run on; the file does not say.

    Raises:
        ModelFileError: the file can't be read, is no model, or its weights don't fit its architecture.
        ArgumentError: there is no such backend.
    """
    model = Sequential(backend=backend)
    description, arrays = saving.read_file(path)
    try:
        config = description["model"]
        model.name = str(config["name"])
        shape = arguments.shape("input_shape", config["input_shape"])
        for described in config["layers"]:
            layer = LAYERS[described["class"]].from_config(described["config"])
            layer.compute_output_shape(shape)
            specs = layer.weight_specs(shape)
            weights = {name: arrays[f"{layer.name}.{name}"] for name in specs}
            for name, array in weights.items():
                if array.shape != specs[name].shape:
                    expected = f"expected {specs[name].shape}"
                    raise ArgumentError(f"{layer.label}: {name} has shape {array.shape}; {expected}")
            layer.restore(shape, weights, model.dtype)
            model.add(layer)
            shape = layer.output_shape
        if (how := description["compile"]) is not None:
            model.compile(how["optimizer"], how["loss"], how["metrics"])
    except (FastcnnError, KeyError, TypeError, AttributeError) as problem:
        raise ModelFileError(f"{path}: the model in it does not hold together ({problem})") from None
    return model
