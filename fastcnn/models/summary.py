"""The table that `Sequential.summary` prints."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from fastcnn.layers import Layer


def table(name: str, layers: Sequence[Layer]) -> RenderableType:
    """Keras' table of layers, output shapes and parameters, with the totals below."""
    rows = Table(Column("Layer (type)"), Column("Output Shape"), Column("Param #", justify="right"))
    for layer in layers:
        shape = "(" + ", ".join(["None", *map(str, layer.output_shape)]) + ")" if layer.built else "?"
        count = f"{layer.count_params():,}" if layer.built else "? (not built)"
        rows.add_row(Text(layer.label), shape, count)
    trainable = [layer for layer in layers if layer.trainable]
    frozen = [layer for layer in layers if not layer.trainable]
    totals = (("Total", layers), ("Trainable", trainable), ("Non-trainable", frozen))
    lines = [Text(f" {kind} params: {_size(chosen)}") for kind, chosen in totals]
    return Group(Text(f'Model: "{name}"'), rows, *lines)


def _size(layers: Sequence[Layer]) -> str:
    count = sum(layer.count_params() for layer in layers)
    size = float(sum(p.value.nbytes for layer in layers for p in layer.parameters.values()))
    for unit in ("B", "KB", "MB"):
        if size < 1024 or unit == "MB":
            break
        size /= 1024
    return f"{count:,} ({size:.2f} {unit})"
