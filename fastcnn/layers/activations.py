"""Activations by their Keras names."""

from __future__ import annotations

from typing import Any

from fastcnn import arguments

#: What a Dense layer can end in. Softmax belongs to the model's last layer, where the loss undoes it.
ACTIVATIONS = ("linear", "softmax")


def get(owner: str, activation: Any, available: tuple[str, ...] = ACTIVATIONS) -> str:
    """The activation's name; None means ``"linear"``.

    Raises:
        ArgumentError: there is none of that name; the message lists those that exist.
    """
    if activation is None:
        return "linear"
    return arguments.choice(f"{owner}: activation", activation, available)
