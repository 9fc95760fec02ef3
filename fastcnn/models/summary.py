"""The table that `Sequential.summary` prints."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from fastcnn.layers import Layer
from fastcnn.layers.base import Array


def table(name: str, layers: Sequence[Layer]) -> RenderableType:
    """Keras' table of layers, output shapes and parameters, with the totals below."""
    rows = Table(Column("Layer (type)"), Column("Output Shape"), Column("Param #", justify="right"))
    for layer in layers:
        shape = "(" + ", ".join(["None", *map(str, layer.output_shape)]) + ")" if layer.built else "?"
        count = f"{layer.count_params():,}" if layer.built else "? (not built)"
        rows.add_row(Text(layer.label), shape, count)
    weights = [(p.value, layer.trainable and p.trainable) for layer in layers for p in layer.parameters.values()]
    trainable = [value for value, learns in weights if learns]
    frozen = [value for value, learns in weights if not learns]
    totals = (("Total", trainable + frozen), ("Trainable", trainable), ("Non-trainable", frozen))
    lines = [Text(f" {kind} params: {_size(chosen)}") for kind, chosen in totals]
    return Group(Text(f'Model: "{name}"'), rows, *lines)


def _size(weights: Sequence[Array]) -> str:
    count = sum(value.size for value in weights)
    size = float(sum(value.nbytes for value in weights))
    for unit in ("B", "KB", "MB"):
        if size < 1024 or unit == "MB":
            break
        size /= 1024
    return f"{count:,} ({size:.2f} {unit})"
