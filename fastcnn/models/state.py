"""What training goes on from besides the weights: the optimizer's arrays and the generators' states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fastcnn import arguments, losses, optimizers
from fastcnn.errors import ArgumentError
from fastcnn.layers import Layer
from fastcnn.layers.base import Array, Parameter
from fastcnn.losses import Loss
from fastcnn.optimizers import Optimizer


def how_compiled(optimizer: Optimizer | None, loss: Loss | None, accuracies: Sequence[str]) -> dict[str, Any] | None:
    """What `Sequential.compile` was told, fit for JSON; None if it was not called."""
    if optimizer is None or loss is None:
        return None
    described = {"optimizer": optimizers.serialize(optimizer), "loss": losses.serialize(loss)}
    return {**described, "metrics": list(accuracies)}


def optimizer_arrays(optimizer: Optimizer, layers: Sequence[Layer]) -> dict[str, Array]:
    """The optimizer's arrays by name; a parameter that never took a step has none."""
    return {
        f"{name}.{number}": array
        for name, parameter in _parameters(layers)
        for number, array in enumerate(optimizer.get_state(parameter))
    }


def restore_optimizer(
    optimizer: Optimizer, layers: Sequence[Layer], iterations: Any, arrays: Mapping[str, Array]
) -> None:
    """Bring an optimizer to where it was.

    Args:
        optimizer: new.
        layers: a model's layers, built.
        iterations: how many steps it had taken.
        arrays: the arrays by name, and others.

    Raises:
        ArgumentError: `iterations` is no number of steps, or an array has not its parameter's shape.
        KeyError: one of a parameter's arrays is missing.
    """
    optimizer.iterations = arguments.integer("iterations", iterations, least=0)
    for name, parameter in _parameters(layers):
        names = [f"{name}.{number}" for number in range(optimizer.arrays)]
        if any(name in arrays for name in names):
            optimizer.set_state(parameter, [arrays[name] for name in names])


def generator_states(generators: Mapping[str, np.random.Generator]) -> dict[str, Any]:
    """The states of generators by name, fit for JSON."""
    return {name: dict(generator.bit_generator.state) for name, generator in generators.items()}


def restore_generators(generators: Mapping[str, np.random.Generator], states: Mapping[str, Any]) -> None:
    """Bring generators to the states that `generator_states` returned.

    Raises:
        ArgumentError: a state is none of that generator.
        KeyError: one is missing.
    """
    try:
        for name, generator in generators.items():
            generator.bit_generator.state = states[name]
    except (ValueError, TypeError, OverflowError) as problem:
        raise ArgumentError(f"the state of a random generator is damaged: {problem}") from None


def _parameters(layers: Sequence[Layer]) -> Iterator[tuple[str, Parameter]]:
    """Every parameter with the beginning of its optimizer arrays' names, which no weight's name has."""
    for layer in layers:
        for parameter in layer.parameters.values():
            yield f"optimizer.{layer.name}.{parameter.name}", parameter
