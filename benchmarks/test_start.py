"""What users wait for before anything else: whole processes, with kernels to compile and without, and loading MNIST."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastcnn.datasets import mnist as files

pytestmark = pytest.mark.benchmark(group="start")

ROOT = Path(__file__).parents[1]
TRAIN = ("-m", "fastcnn", "train", "--quiet")

FIRST_STEP = """
import numpy as np
from fastcnn import Sequential
from fastcnn.layers import Conv2D, Dense, Flatten, MaxPooling2D
model = Sequential([
    Conv2D(5, 3, activation="relu", input_shape=(20, 20, 3)), MaxPooling2D(2), Conv2D(7, 3), Flatten(),
    Dense(4, activation="softmax"),
])
model.compile("adam", "sparse_categorical_crossentropy")
model.train_on_batch(np.ones((32, 20, 20, 3), np.float32), np.zeros(32, int))
"""


def python(*arguments: str, cache: Path | None = None) -> None:
    """Run a Python process, with kernels kept in `cache`, or where this process keeps them."""
    environment = os.environ if cache is None else {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, check=True)


@pytest.mark.slow
def test_train_empty_cache(benchmark: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    """`fastcnn train`, three epochs on all of MNIST: the very first time."""

    def empty_folder() -> tuple[tuple[str, ...], dict[str, Path]]:
        return TRAIN, {"cache": tmp_path_factory.mktemp("kernels")}

    benchmark.pedantic(python, setup=empty_folder, rounds=3)


def test_train_filled_cache(benchmark: Any) -> None:
    """The same, every time after that."""
    python(*TRAIN)
    benchmark.pedantic(python, TRAIN, rounds=5)


@pytest.mark.quick
@pytest.mark.parametrize(
    "statement",
    ["pass", "import fastcnn", "from fastcnn import Sequential", "import fastcnn.backends.numba.fused"],
    ids=["nothing", "fastcnn", "Sequential", "kernels"],
)
def test_import(benchmark: Any, statement: str) -> None:
    """A process that imports, beside one that imports nothing."""
    benchmark.pedantic(python, ("-c", statement), rounds=5, warmup_rounds=1)


def test_load_mnist_process(benchmark: Any) -> None:
    """The same in a process of its own, its imports included."""
    statement = "from fastcnn.datasets import mnist; mnist.load_data()"
    benchmark.pedantic(python, ("-c", statement), rounds=5, warmup_rounds=1)


def test_first_step_of_an_unseen_network(benchmark: Any) -> None:
    """A process that trains two convolutions for one step, with kernels in the cache: architectures compile nothing."""
    python("-c", FIRST_STEP)
    benchmark.pedantic(python, ("-c", FIRST_STEP), rounds=5)


def test_load_mnist(benchmark: Any) -> None:
    """All four files, checked by digest, in a process that runs already."""
    benchmark.pedantic(files.load_data, rounds=5, warmup_rounds=1)
