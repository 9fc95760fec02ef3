"""MNIST, from inside the package: 60,000 training and 10,000 test images of handwritten digits, 28 x 28.

The images are uint8, 0 (background) to 255 (ink); the labels are uint8, 0 to 9. Both faces that people know
are here: four functions, as the `mnist` package has them, and `load_data`, as Keras has it. Each call returns
new, writable arrays, and each file's SHA-256 digest is checked each time it is read.

MNIST is by Yann LeCun and Corinna Cortes, CC BY-SA 3.0: see files/LICENSE-DATA.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastcnn.datasets.idx import read_idx
from fastcnn.errors import ArgumentError, DataError

__all__ = ["load_data", "test_images", "test_labels", "train_images", "train_labels"]

FOLDER = Path(__file__).with_name("files")

# The SHA-256 digests of the raw files, as published.
DIGESTS = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def train_images() -> NDArray[np.uint8]:
    """The training images, (60000, 28, 28). Raises DataError where the installed file is damaged."""
    return _read("train-images-idx3-ubyte", 3)


def train_labels() -> NDArray[np.uint8]:
    """The training labels, (60000,). Raises DataError where the installed file is damaged."""
    return _read("train-labels-idx1-ubyte", 1)


def test_images() -> NDArray[np.uint8]:
    """The test images, (10000, 28, 28). Raises DataError where the installed file is damaged."""
    return _read("t10k-images-idx3-ubyte", 3)


def test_labels() -> NDArray[np.uint8]:
    """The test labels, (10000,). Raises DataError where the installed file is damaged."""
    return _read("t10k-labels-idx1-ubyte", 1)


def load_data(
    path: str = "mnist.npz",
) -> tuple[tuple[NDArray[np.uint8], NDArray[np.uint8]], tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Load all of MNIST.

    Args:
        path: Leave it out. In Keras it names the file in which a download is kept; nothing is downloaded
            here, so only Keras' default is accepted.

    Returns:
        `(x_train, y_train), (x_test, y_test)`, all uint8: (60000, 28, 28), (60000,), (10000, 28, 28) and
        (10000,).

    Raises:
        ArgumentError: `path` is given: other data are loaded by `load_idx_folder`.
        DataError: An installed file is damaged.
    """
    if path != "mnist.npz":
        raise ArgumentError(
            f"load_data() got path={path!r}, but MNIST lies inside fastcnn; leave path out, or read your own "
            "four IDX files with fastcnn.datasets.load_idx_folder(path)"
        )
    return (train_images(), train_labels()), (test_images(), test_labels())


def _read(name: str, dimensions: int) -> NDArray[np.uint8]:
    try:
        return read_idx(FOLDER / f"{name}.gz", dimensions, sha256=DIGESTS[name])
    except DataError as error:
        raise DataError(f"{error}; this is fastcnn's own copy of MNIST: reinstall fastcnn") from None
