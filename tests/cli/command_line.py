"""How the tests of the command line run commands, and what they run them on."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from small_images import bars


class Result(NamedTuple):
    status: int
    out: str
    err: str


Run = Callable[..., Result]


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_bars(folder: Path, shape: tuple[int, int], classes: int) -> Path:
    """Four IDX files: 300 and 80 images."""
    for prefix, count, seed in (("train", 300, 1), ("t10k", 80, 2)):
        images, labels = bars(count, shape, classes, seed=seed)
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", labels)
    return folder


def refused(result: Result, *words: str) -> None:
    """One line on stderr with these words in it, exit status 2, and no file left behind."""
    assert result.status == 2, result
    assert result.out == ""
    assert result.err.startswith("fastcnn: ")
    assert result.err.count("\n") == 1
    for word in words:
        assert word in result.err
    assert list(Path.cwd().iterdir()) == []


def digit_png(path: Path, label: int, size: int = 60) -> Path:
    """One of the training images, ink on paper, scaled up."""
    images, labels = bars(80, seed=2)
    image = Image.fromarray(255 - images[labels == label][0]).resize((size, size))
    image.save(path)
    return path
