"""Sequential: a stack of layers with Keras' face. It checks what it gets; training and stages do the rest."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.console import Console

from fastcnn import arguments, losses, optimizers, stages, training
from fastcnn.callbacks import Callback, CallbackList, ProgressBar, report, verbose_level
from fastcnn.errors import ArgumentError, FastcnnError, ModelFileError
from fastcnn.layers import Layer
from fastcnn.layers.base import Array
from fastcnn.losses import Loss
from fastcnn.models import inputs, saving, state
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
    "steps_per_epoch": (None,),
    "validation_steps": (None,),
    "validation_batch_size": None,
    "validation_freq": (1,),
}


P = TypeVar("P", bound=stages.Plan)


@dataclass(frozen=True)
class Gradients:
    """What `Sequential.gradients` returns.

    Attributes:
        loss: the mean over the batch.
        weights: the loss' gradient for every weight, in the order of `get_weights`.
        input: its gradient for `x`, of the shape (N, *input shape).
    """

    loss: float
    weights: list[Array]
    input: Array


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
        self._plans: dict[str, stages.Plan] = {}
        self._fused = True
        self._accuracies: tuple[str, ...] = ()
        self.stop_training = False
        self.optimizer: Optimizer | None = None
        self.loss: Loss | None = None
        super().__init__(layers, backend, dtype, seed, name)

    def changed(self) -> None:
        self._plans = {}

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
            fused: False makes each layer run by itself: no operation does the work of two, and the tutorial's
                network is not trained by one function.

        Raises:
            ArgumentError: one of them is unknown.
        """
        arguments.refuse("compile", unknown, self.compile, _NEUTRAL_COMPILE)
        names = [metrics] if isinstance(metrics, str) else list(metrics or ())
        chosen = optimizers.get(optimizer), None if loss is None else losses.get(loss)
        self._accuracies = tuple(arguments.choice("metrics", name, ACCURACIES) for name in names)
        self.optimizer, self.loss = chosen
        self._fused = arguments.flag("fused", fused)
        self._plans = {}

    def fit(
        self,
        x: ArrayLike,
        y: ArrayLike,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | Literal["auto"] = "auto",
        callbacks: Sequence[Callback] | None = None,
        validation_split: float = 0.0,
        validation_data: Sequence[ArrayLike] | None = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: ArrayLike | None = None,
        initial_epoch: int = 0,
        **unknown: Any,
    ) -> History:
        """Train.

        Args:
            x: images (N, height, width, channels), or (N, height, width) where there is one
                channel; any number type.
            y: what the loss takes: rows of classes (N, classes), whole numbers (N,), or the outputs wanted.
            batch_size: samples a step; 32 by default.
            epochs: the number of the last epoch.
            verbose: 0 silent, 1 a progress bar, 2 a line an epoch, ``"auto"`` 1 in a terminal and else 2.
            callbacks: instances of `fastcnn.callbacks.Callback`.
            validation_split: the share of samples, the last ones, that are kept for validation.
            validation_data: `x` and `y`, perhaps a `sample_weight`, to evaluate after each epoch.
            shuffle: whether each epoch visits the samples in a new order.
            class_weight: how much a sample's loss counts by its class: ``{0: 1.0, 1: 5.0}``; else 1.
            sample_weight: how much each sample's loss counts (N,); the mean is still over the number of samples.
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
        samples = self._samples(x, y, sample_weight, class_weight)
        validation: Samples | None = None
        if validation_data is not None:
            if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
                raise ArgumentError("validation_data: expected a pair (x, y), or (x, y, sample_weight)")
            validation = self._samples(*validation_data, prefix="validation_data: ")
        elif validation_split:
            samples, validation = inputs.split(samples, validation_split)
        fusable = _fusable(samples) and (validation is None or _fusable(validation))
        plan = self._make_plan(optimizer) if fusable else self._layerwise_plan()
        samples = replace(samples, images=plan.prepare(samples.images))
        if validation is not None:
            validation = replace(validation, images=plan.prepare(validation.images))
        size = min(size, len(samples))
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
        sample_weight: ArrayLike | None = None,
        *,
        return_dict: bool = False,
    ) -> Any:
        """The mean loss, and the accuracy if `compile` was asked for it.

        Args:
            x, y, sample_weight: as for `fit`.
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
        samples = self._samples(x, y, sample_weight)
        begun = time.perf_counter()
        plan = self._inference_plan() if _fusable(samples) else self._layerwise_plan()
        samples = replace(samples, images=plan.prepare(samples.images))
        figures = training.evaluate(plan, samples, size, self._accuracies)
        if level:
            steps, seconds = math.ceil(len(samples) / (size or 32)), time.perf_counter() - begun
            line = report(steps, seconds, figures, bar=level == 1)
            console.print(line, highlight=False, soft_wrap=True)
        return _as_asked(figures, return_dict)

    def train_on_batch(
        self,
        x: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        class_weight: Mapping[int, float] | None = None,
        *,
        return_dict: bool = False,
    ) -> Any:
        """Take one step with all of `x` as the batch.

        Args:
            x, y, sample_weight, class_weight: as for `fit`.
            return_dict: whether to return the figures by name.

        Returns:
            As `evaluate`: this batch's figures before the step.

        Raises:
            ArgumentError: an argument is not what it should be; nothing was trained.
            DivergedError: a loss is not finite; nothing was changed.
        """
        optimizer = self._compiled()
        samples = self._samples(x, y, sample_weight, class_weight)
        plan = self._layerwise_plan()
        return _as_asked(training.one_step(plan, optimizer, samples, self._accuracies), return_dict)

    def gradients(
        self, x: ArrayLike, y: ArrayLike, training: bool = False, sample_weight: ArrayLike | None = None
    ) -> Gradients:
        """The loss of a batch and what it depends on how much; nothing is changed.

        Args:
            x, y, sample_weight: as for `fit`; all of `x` is one batch.
            training: whether dropout and batch normalization do what they do in training. Dropout's mask is that of
                the next batch: the same at every call, until the model is trained.

        Raises:
            ArgumentError: an argument is not what it should be.
        """
        self._compiled()
        samples = self._samples(x, y, sample_weight)
        plan = self._layerwise_plan()
        mode = arguments.flag("training", training)
        return Gradients(*plan.gradients(samples.images, samples.labels, mode, samples.weights))

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
        """The fused plan where network, optimizer (None: inference) and loss allow it, else stages."""
        fusable = self._fused and not isinstance(self.loss, losses.MeanSquaredError)
        fused = stages.fused_plan(self._layers, self.backend, optimizer) if fusable else None
        return fused or self._layerwise_plan()

    def _layerwise_plan(self) -> stages.StagePlan:
        """The stages, which keep their arrays from one call to the next."""
        network = (self._layers, self.backend, self.dtype, self.loss, self._masks, self._fused)
        return self._kept_plan("layerwise", lambda: stages.plan(*network))

    def _inference_plan(self) -> stages.Plan:
        return self._kept_plan("inference", self._make_plan)

    def _kept_plan(self, purpose: str, make: Callable[[], P]) -> P:
        """The plan made for that purpose before, or a new one if layers, loss or optimizer changed since."""
        if purpose not in self._plans:
            self._plans[purpose] = make()
        return cast("P", self._plans[purpose])

    def _images(self, x: ArrayLike, prefix: str = "") -> Array:
        if not self._layers:
            raise ArgumentError("the model has no layers; add() some first")
        images = inputs.numbers(x, prefix)
        if not self.built:
            self.build(inputs.infer_shape(images, self._layers))
        return inputs.fit_shape(images, self._shape(), prefix)

    def _samples(
        self,
        x: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        class_weight: Mapping[int, float] | None = None,
        *,
        prefix: str = "",
    ) -> Samples:
        assert self.loss is not None
        images = self._images(x, prefix)
        inputs.check_loss(self.loss, self._layers, self._accuracies)
        try:
            labels = self.loss.targets(y, len(images), self._layers[-1].output_shape)
            weights = inputs.sample_weights(labels, sample_weight, class_weight, self._layers[-1].output_shape[-1])
        except ArgumentError as problem:
            raise ArgumentError(f"{prefix}{problem}") from None
        return Samples(images, labels, weights)

    def save(self, path: str | os.PathLike[str], *, include_optimizer: bool = True) -> None:
        """Write all that training goes on from to a safetensors file: `load_model` brings it back.

        Args:
            path: where to; an existing file is replaced.
            include_optimizer: whether to write what the optimizer remembers, which may be twice as much as the weights.

        Raises:
            ArgumentError: the model is not built.
            ModelFileError: the file can't be written; what stood there before still stands.
        """
        weights = {f"{layer.name}.{p.name}": p.value for layer in self._layers for p in layer.parameters.values()}
        names, how = list(weights), state.how_compiled(self.optimizer, self.loss, self._accuracies)
        description: dict[str, Any] = {"model": self.get_config(), "weights": names, "compile": how}
        description["generators"] = state.generator_states(self.generators())
        if self.optimizer is not None and include_optimizer:
            description["iterations"] = self.optimizer.iterations
            weights |= state.optimizer_arrays(self.optimizer, self._layers)
        saving.write_file(path, description, weights)

    def save_weights(self, path: str | os.PathLike[str]) -> None:
        """`save` without what the optimizer remembers, whatever the file's name."""
        self.save(path, include_optimizer=False)

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


def _fusable(samples: Samples) -> bool:
    """Whether these are what the fused plan takes: a class a sample, and no weights."""
    return samples.weights is None and samples.labels.dtype == np.int64


def _as_asked(figures: dict[str, float], return_dict: bool) -> Any:
    """The figures by name, or as a list, or the loss alone if there is nothing else."""
    if return_dict:
        return figures
    return list(figures.values()) if len(figures) > 1 else figures["loss"]
