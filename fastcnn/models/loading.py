"""Models back from files."""

from __future__ import annotations

import os

from fastcnn import arguments
from fastcnn.errors import ArgumentError, FastcnnError, ModelFileError
from fastcnn.layers import LAYERS
from fastcnn.models import saving, state
from fastcnn.models.sequential import Sequential


def load_model(path: str | os.PathLike[str], *, backend: str = "numba") -> Sequential:
    """The model in a file that `Sequential.save` wrote, compiled as it was: `fit` goes on as if nothing had happened.

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
        if model.optimizer is not None and "iterations" in description:
            state.restore_optimizer(model.optimizer, model.layers, description["iterations"], arrays)
        if "generators" in description:
            state.restore_generators(model.generators(), description["generators"])
    except (FastcnnError, KeyError, TypeError, AttributeError) as problem:
        raise ModelFileError(f"{path}: the model in it does not hold together ({problem})") from None
    return model
