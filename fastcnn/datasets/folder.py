"""A data set in a folder of four IDX files: MNIST, Fashion-MNIST, KMNIST, EMNIST, or one's own."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastcnn.datasets.idx import printable, read_idx
from fastcnn.errors import DataError

# train-images-idx3-ubyte, t10k-labels.idx1-ubyte.gz, emnist-letters-test-images-idx3-ubyte.gz, ...
FILE_NAME = re.compile(
    r"(?P<prefix>.+-)?(?P<split>train|t10k|test)-(?P<kind>images(?=.idx3)|labels(?=.idx1))[-.]idx[13]-ubyte(\.gz)?"
)
Part = tuple[str, str]  # ("train" or "test", "images" or "labels")


def load_idx_folder(
    path: str | os.PathLike[str],
) -> tuple[tuple[NDArray[np.uint8], NDArray[np.uint8]], tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Load a folder with the four files of an IDX data set, each plain or gzip-compressed.

    The files are train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
    t10k-labels-idx1-ubyte; `.idx3` for `-idx3`, `test` for `t10k` and an ending `.gz` are understood too.
    Where there is none of these, one set with a common prefix is taken, for example
    emnist-letters-train-images-idx3-ubyte and its three siblings. Of a plain and a compressed file of the
    same name, the plain one is read.

    Images may have any size, labels any number of classes up to 256. Both are returned as stored: EMNIST's
    images, for example, are transposed, and the labels of its letters start at 1.

    Args:
        path: The folder.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: images (count, rows, columns) and labels (count,), all new,
        writable uint8 arrays.

    Raises:
        DataError: The folder or a file is missing, a file can't be read or is damaged, counts of images and
            labels differ, training and test images differ in size, or a test label is larger than all
            training labels.
    """
    folder = Path(path)
    files = _find(folder)
    x_train, y_train = _load_split(files, "train")
    x_test, y_test = _load_split(files, "test")
    if x_train.shape[1:] != x_test.shape[1:]:
        rows, columns = x_test.shape[1:]
        raise DataError(
            f"{printable(files['test', 'images'])}: images are {rows} x {columns}; expected "
            f"{x_train.shape[1]} x {x_train.shape[2]} as in {printable(files['train', 'images'].name)}"
        )
    check_labels(y_test, int(y_train.max()) + 1, files["test", "labels"])
    return (x_train, y_train), (x_test, y_test)


def check_labels(labels: NDArray[np.integer], classes: int, name: str | os.PathLike[str]) -> None:
    """Check that every label names one of the classes.

    Args:
        labels: Integers, of any shape.
        classes: The number of classes; labels run from 0 to `classes - 1`.
        name: What the labels were read from, for the message.

    Raises:
        DataError: A label is out of range.
    """
    flat = labels.reshape(-1)
    wrong = np.flatnonzero((flat < 0) | (flat >= classes))
    if len(wrong):
        raise DataError(
            f"{printable(name)}: label {flat[wrong[0]]} at position {wrong[0]} is out of range; "
            f"expected 0 to {classes - 1}, the {classes} classes of the training data"
        )


def _load_split(files: dict[Part, Path], split: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    labels = read_idx(files[split, "labels"], 1)
    images = read_idx(files[split, "images"], 3)
    if len(images) != len(labels):
        raise DataError(
            f"{printable(files[split, 'labels'])}: holds {len(labels)} labels; expected {len(images)}, "
            f"one for each image in {printable(files[split, 'images'].name)}"
        )
    return images, labels


def _find(folder: Path) -> dict[Part, Path]:
    """Choose the four files; raise DataError, naming what is missing, where there are not four."""
    shown = printable(folder)
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: (entry.suffix == ".gz", entry.name))
    except FileNotFoundError:
        raise DataError(f"{shown}: no such folder; {_expected('')}") from None
    except NotADirectoryError:
        raise DataError(f"{shown}: is not a folder; {_expected('')}") from None
    except (OSError, ValueError) as error:  # ValueError: a path that no folder can have
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{shown}: can't be read ({reason}); check the path and its permissions") from None

    sets: dict[str, dict[Part, Path]] = defaultdict(dict)
    for entry in entries:
        if match := FILE_NAME.fullmatch(entry.name):
            split = "train" if match["split"] == "train" else "test"
            sets[match["prefix"] or ""].setdefault((split, match["kind"]), entry)
    if not sets:
        raise DataError(f"{shown}: holds no IDX data set; {_expected('')}")
    if "" not in sets and len(sets) > 1:
        names = ", ".join(printable(prefix.rstrip("-")) for prefix in sets)
        raise DataError(f"{shown}: holds several data sets ({names}); give a folder with one of them")

    prefix = "" if "" in sets else next(iter(sets))
    for part, name in _standard_names(prefix).items():
        if part not in sets[prefix]:
            raise DataError(f"{printable(folder / name)}: no such file; {_expected(prefix)}")
    return sets[prefix]


def _standard_names(prefix: str) -> dict[Part, str]:
    test = "test" if prefix else "t10k"
    return {
        ("train", "images"): f"{prefix}train-images-idx3-ubyte",
        ("train", "labels"): f"{prefix}train-labels-idx1-ubyte",
        ("test", "images"): f"{prefix}{test}-images-idx3-ubyte",
        ("test", "labels"): f"{prefix}{test}-labels-idx1-ubyte",
    }


def _expected(prefix: str) -> str:
    names = ", ".join(printable(name) for name in _standard_names(prefix).values())
    return f"expected a folder with {names} (each plain or .gz)"
