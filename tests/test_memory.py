"""Memory of training: what was given back is not used, and not too much is taken."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc's settings and /proc")

TRAINING = """
import numpy as np
from fastcnn import layers, models

rng = np.random.default_rng(0)
images, labels = rng.random((96, 20, 20, 1), np.float32), rng.integers(0, 10, 96)
for fused in (True, False):
    stack = [
        layers.Input((20, 20, 1)),
        layers.Conv2D(24, 5, padding="same"), layers.MaxPooling2D(), layers.ReLU(),
        layers.Conv2D(32, 3), layers.BatchNormalization(), layers.ReLU(), layers.AveragePooling2D(),
        layers.Conv2D(16, 3, strides=2, activation="relu"),
        layers.Flatten(), layers.Dense(200, activation="relu"), layers.Dropout(0.5), layers.Dense(10),
        layers.Softmax(),
    ]
    model = models.Sequential(stack, seed=0)
    model.compile("adam", "sparse_categorical_crossentropy", fused=fused)
    losses = [model.train_on_batch(images, labels) for _ in range(3)]
    assert losses[2] < losses[0] and np.isfinite(model.predict(images, verbose=0)).all(), losses
"""


#: Three steps of a recipe on MNIST; ends with the most memory that the process had, in kilobytes. (`getrusage` would
#: count that of the process which started it.)
RECIPE = """
import re
from pathlib import Path
from fastcnn import recipes
from fastcnn.datasets import mnist

model, (images, labels) = recipes.build_model("keras-convnet", seed=0), mnist.load_data()[0]
for start in (0, 128, 256):
    model.train_on_batch(images[start : start + 128, ..., None], labels[start : start + 128])
model.predict(images[:1000, ..., None], verbose=0)
print(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def test_the_largest_recipe_takes_less_than_600_megabytes() -> None:
    done = subprocess.run([sys.executable, "-c", RECIPE], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 600e6


def test_training_uses_no_memory_that_was_freed() -> None:
    """In a process where such memory is overwritten and, if large, unmapped."""
    guarded = {**os.environ, "MALLOC_PERTURB_": "165", "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run([sys.executable, "-c", TRAINING], env=guarded, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
