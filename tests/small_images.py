"""Small images with classes that a network learns in a few epochs: a bright bar whose height is the class."""

from __future__ import annotations

import numpy as np


def bars(
    samples: int = 200, shape: tuple[int, int] = (12, 10), classes: int = 4, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Images (samples, height, width) uint8, with the flat background that makes ties common, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    images = np.zeros((samples, *shape), np.uint8)
    for image, label in zip(images, labels, strict=True):
        top = 1 + (shape[0] - 3) * label // classes
        patch = rng.integers(100, 256, (3, shape[1] - 4))
        image[top : top + 3, 2:-2] = patch
    return images, labels
