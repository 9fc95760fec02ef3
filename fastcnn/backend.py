"""What scripts ask `keras.backend` for; our backends, which run the layers, are in `fastcnn.backends`."""

from __future__ import annotations

from fastcnn import absent


def image_data_format() -> str:
    """``"channels_last"``: images are (samples, height, width, channels)."""
    return "channels_last"


def floatx() -> str:
    """``"float32"``: what models keep their weights in unless they are told."""
    return "float32"


def epsilon() -> float:
    """1e-7: the default of the optimizers' `epsilon`."""
    return 1e-7


def clear_session() -> None:
    """Does nothing: models share no state that could be cleared."""


__getattr__ = absent.getter(__name__)
