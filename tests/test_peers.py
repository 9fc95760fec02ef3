"""The generated networks in PyTorch and in Keras, in float64: gradients, predictions, and weights carried over.

Each library runs in this interpreter's environment if it is installed here, else in its own, which
``python -m benchmarks.peers install`` makes; it gets networks and data in a folder and leaves its results there.
The bound is the generated networks' own (`intervals.py`), at 2^-53.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generated_networks import Problem, built, problem
from intervals import Interval, run
from test_generated_networks import FLOAT64, check, described, mask

from benchmarks.peers.participants import PEERS
from benchmarks.peers.protocol import environment
from fastcnn.layers import Dropout, MaxPooling2D
from fastcnn.models import Sequential

pytestmark = pytest.mark.peers
WORKERS = Path(__file__).parent / "peers"
SEEDS = range(120)


def interpreter(name: str, *modules: str) -> str:
    """Return the interpreter that can import a peer's modules; skip where there is none."""
    if all(importlib.util.find_spec(module) for module in modules):
        return sys.executable
    reason = PEERS[name].missing()
    if reason is not None:
        pytest.skip(f"{PEERS[name].title}: {reason}")
    return str(PEERS[name].python)


def given(seed: int) -> Problem:
    """The generated network, with the one rule for ties that the peers know, and numbers that float32 holds.

    (Keras turns a layer's numbers into float32 also where it computes in float64.)
    """
    found = problem(seed)
    for layer in found.layers:
        if isinstance(layer, MaxPooling2D):
            layer.ties = "first"
        for name in ("scale", "offset", "negative_slope", "epsilon"):
            if isinstance(getattr(layer, name, None), float):
                setattr(layer, name, float(np.float32(getattr(layer, name))))
    return found


def ask(python: str, worker: str, folder: Path, models: list[tuple[Problem, Sequential, bool]]) -> Mapping[str, Any]:
    """Hand networks to a worker and return what it found."""
    arrays: dict[str, np.ndarray] = {}
    networks = []
    for i, (asked, model, training) in enumerate(models):
        for j, layer in enumerate(model.layers):
            if isinstance(layer, Dropout) and training:
                arrays[f"{i} mask {j}"] = mask(layer, len(asked.x))
        weights = model.get_weights()
        arrays |= {f"{i} weights {j}": weight for j, weight in enumerate(weights)}
        arrays |= {f"{i} x": asked.x, f"{i} y": asked.y, f"{i} targets": targets(asked, model)}
        networks.append(
            {
                "layers": [[type(la).__name__, la.get_config(), len(la.get_weights())] for la in model.layers],
                "weights": len(weights),
                "loss": type(asked.loss).__name__,
                "loss_config": asked.loss.get_config(),
                "from_logits": asked.loss.from_logits,
                "training": training,
            }
        )
    np.savez(folder / "arrays.npz", **arrays)
    (folder / "networks.json").write_text(json.dumps(networks))
    done = subprocess.run(
        [python, str(WORKERS / worker), str(folder)], env=environment(1), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(np.load(folder / "results.npz"))


def targets(asked: Problem, model: Sequential) -> np.ndarray:
    """Rows of targets, also for labels."""
    shape = model.layers[-1].output_shape
    found = asked.loss.targets(asked.y, len(asked.x), shape)
    return np.eye(shape[0])[found] if found.ndim == 1 else found


def test_pytorch_finds_the_same_gradients(tmp_path: Path) -> None:
    python = interpreter("torch", "torch")
    models = [
        (asked, built(asked, "im2col", "float64"), training)
        for training in (False, True)
        for asked in map(given, SEEDS)
    ]
    theirs = ask(python, "torch_networks.py", tmp_path, models)
    compared = 0
    for i, (asked, model, training) in enumerate(models):
        masks = {j: mask(la, len(asked.x)) for j, la in enumerate(model.layers) if isinstance(la, Dropout)}
        loss, gradients, images, _ = run(model.layers, asked.loss, asked.x, asked.y, training, masks)
        ours = model.gradients(asked.x, asked.y, training)
        names = ["loss", "input", *[f"weights {j}" for j in range(len(gradients))]]
        values = [np.asarray(ours.loss), ours.input, *ours.weights]
        for name, mine, interval in zip(names, values, [loss, images, *gradients], strict=True):
            check(theirs[f"{i} {name}"], Interval(mine, interval.radius), FLOAT64, f"{i} {name}, {described(asked)}")
            compared += 1
    assert compared > 5 * len(models)


def test_keras_weights_give_keras_predictions_and_ours_give_ours(tmp_path: Path) -> None:
    """The layers are made from our configurations: their arguments mean the same, and weights come in one order."""
    python = interpreter("keras", "keras", "tensorflow")
    models = [(asked, built(asked, "im2col", "float64"), False) for asked in map(given, SEEDS)]
    theirs = ask(python, "keras_networks.py", tmp_path, models)
    for i, (asked, model, _) in enumerate(models):
        for kind in ("given", "drawn"):
            if kind == "drawn":
                model.set_weights([theirs[f"{i} drawn {j}"] for j in range(len(model.get_weights()))])
            loss, _, _, outputs = run(model.layers, asked.loss, asked.x, asked.y, False, {})
            mine = Interval(model.predict(asked.x, verbose=0), outputs.radius)
            unit = (
                FLOAT64 if "gelu" not in described(asked) else 1
            )  # TensorFlow's sqrt(2) is float32's, also in float64
            check(theirs[f"{i} {kind} outputs"], mine, unit, f"{i}, {kind}, {described(asked)}")
            if asked.loss.from_logits or outputs.value.min() > 1e-6:  # smaller ones Keras takes for 1e-7
                found = model.evaluate(asked.x, asked.y, verbose=0)
                mine = Interval(np.asarray(found), loss.radius)
                check(theirs[f"{i} {kind} loss"], mine, unit, f"{i}, {kind} loss, {described(asked)}")
