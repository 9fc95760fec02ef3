"""Model files: safetensors, with the architecture as JSON in metadata. No pickle, nothing half-written."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from fastcnn import files
from fastcnn.errors import ModelFileError

#: The version of the JSON's form; a reader refuses those that it doesn't know.
FORMAT = 1
_KEY = "fastcnn"
_FOREIGN = {b"\x89HDF": "an HDF5 file", b"PK\x03\x04": "a zip archive, as Keras writes"}


def write_file(
    path: str | os.PathLike[str], description: Mapping[str, Any], weights: Mapping[str, NDArray[Any]]
) -> None:
    """Write a model file: to a temporary file in the same folder, then renamed.

    Args:
        path: where to; an existing file is replaced.
        description: the architecture, fit for JSON.
        weights: the arrays by name.

    Raises:
        ModelFileError: the file can't be written; what stood there before still stands.
    """
    target = Path(os.path.realpath(path))
    if target.suffix.lower() in (".h5", ".hdf5", ".keras"):
        warnings.warn(f"{path} is written in the safetensors format, whatever its name says", stacklevel=4)
    metadata = {_KEY: json.dumps({"format": FORMAT, **description}, allow_nan=False)}
    arrays = {name: np.ascontiguousarray(array) for name, array in weights.items()}
    files.write("model", path, to_bytes(arrays, metadata), ModelFileError)


def read_file(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read a model file: the description and the arrays by name.

    Raises:
        ModelFileError: there is no such file, or it is truncated, or no model of ours.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(4)
        if start in _FOREIGN:
            raise ModelFileError(f"{path}: is {_FOREIGN[start]}; expected a model that fastcnn saved (safetensors)")
        with safe_open(os.fspath(path), "numpy") as tensors:
            metadata = tensors.metadata() or {}
            arrays = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
    except OSError as problem:
        raise ModelFileError(f"{path}: can't be read ({problem.strerror or problem})") from None
    except (SafetensorError, TypeError, ValueError) as problem:
        if isinstance(problem, ModelFileError):
            raise
        raise ModelFileError(f"{path}: is truncated or no model file ({problem})") from None
    return _description(path, metadata), arrays


def _description(path: str | os.PathLike[str], metadata: Mapping[str, str]) -> dict[str, Any]:
    if _KEY not in metadata:
        raise ModelFileError(f"{path}: is a safetensors file, but none that fastcnn saved: no architecture in it")
    try:
        description = json.loads(metadata[_KEY])
    except (ValueError, RecursionError):
        description = None
    if not isinstance(description, dict) or not isinstance(description.get("format"), int):
        raise ModelFileError(f"{path}: the architecture in it is damaged; save the model again")
    if description["format"] != FORMAT:
        form, ours = description["format"], f"this fastcnn reads format {FORMAT}"
        raise ModelFileError(f"{path}: has format {form}; {ours}: use the version that wrote it, or a newer one")
    return description
