"""`fastcnn evaluate` and `fastcnn predict`: what they say of a model file, and of images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import Run, digit_png, refused

import fastcnn
from fastcnn.datasets import load_idx_folder
from fastcnn.layers import Conv2D, Dense, Flatten, MaxPooling2D
from fastcnn.losses import SparseCategoricalCrossentropy
from fastcnn.models import load_model


def test_evaluate_prints_a_confusion_matrix(run: Run, model: Path, data: Path) -> None:
    result = run("evaluate", model, "--data", data)
    assert result.status == 0
    for word in ("80 images", "loss", "accuracy", "±", "true class (rows), answer (columns)\n"):
        assert word in result.out


def test_models_that_do_not_fit_are_refused(run: Run, model: Path, data: Path, tmp_path: Path) -> None:
    truncated = tmp_path / "truncated.safetensors"
    truncated.write_bytes(model.read_bytes()[:-10])
    refused(run("evaluate", truncated, "--data", data), "truncated.safetensors")
    refused(run("predict", truncated, "x.png"), "truncated.safetensors")
    refused(run("evaluate", tmp_path / "none.safetensors"), "none.safetensors")
    refused(run("evaluate", model), str(model), "28, 28)", "12, 10, 1)")  # MNIST's images


def test_predict_draws_the_image_and_its_probabilities(run: Run, model: Path, tmp_path: Path) -> None:
    paths = [digit_png(tmp_path / f"{label}.png", label) for label in range(2)]
    result = run("predict", model, *paths)
    assert result.status == 0
    assert result.err == ""
    lines = result.out.splitlines()
    for path in paths:
        head = next(line for line in lines if line.startswith(str(path)))
        answer, share = head.removeprefix(f"{path}: ").split(" ")
        below = lines[lines.index(head) + 1 :]
        assert set("".join(below[:6])) <= set(" ▀▄█")
        bars_ = [line.split() for line in below[6:10]]
        assert [bar[0] for bar in bars_] == ["0", "1", "2", "3"]
        shares = [float(bar[1].rstrip("%")) for bar in bars_]
        assert sum(shares) == pytest.approx(100, abs=0.3)
        assert int(answer) == int(np.argmax(shares))
        assert share == f"({max(shares):.1f}%)"


def test_predict_names_the_image_that_is_none_and_reads_the_others(run: Run, model: Path, tmp_path: Path) -> None:
    good = digit_png(tmp_path / "good.png", 1)
    (tmp_path / "bad.png").write_bytes(b"\x89PNG")
    result = run("predict", model, tmp_path / "bad.png", good)
    assert result.status == 2
    assert result.out.startswith(f"{good}: ")
    assert result.err.startswith("fastcnn: ")
    assert "bad.png" in result.err
    assert result.err.count("\n") == 1


def test_a_model_without_rescaling_is_warned_of(run: Run, tmp_path: Path) -> None:
    network = fastcnn.Sequential(
        [Conv2D(2, 3, input_shape=(28, 28, 1)), MaxPooling2D(), Flatten(), Dense(4, activation="softmax")]
    )
    network.save(tmp_path / "m.safetensors")
    with pytest.warns(UserWarning, match="no Rescaling layer"):
        result = run("predict", tmp_path / "m.safetensors", digit_png(tmp_path / "1.png", 1))
    assert result.status == 0


@pytest.mark.filterwarnings("ignore:.*no Rescaling layer:UserWarning")
def test_a_model_that_leaves_softmax_to_its_loss_gives_probabilities(run: Run, data: Path, tmp_path: Path) -> None:
    network = fastcnn.Sequential([Flatten(input_shape=(12, 10)), Dense(4)], seed=1)
    network.compile("sgd", SparseCategoricalCrossentropy(from_logits=True), ["accuracy"])
    network.save(tmp_path / "m.safetensors")
    _, (images, labels) = load_idx_folder(data)
    result = run("evaluate", tmp_path / "m.safetensors", "--data", data, "--json")
    assert json.loads(result.out)["loss"] == pytest.approx(network.evaluate(images, labels, verbose=0)[0], rel=1e-5)
    network.compile("sgd", "mse")
    network.save(tmp_path / "m.safetensors")
    refused(run("evaluate", tmp_path / "m.safetensors", "--data", data), "m.safetensors: does not end in softmax")
    refused(run("predict", tmp_path / "m.safetensors", "x.png"), "m.safetensors: does not end in softmax")


def test_a_written_model_is_the_trained_one(model: Path, data: Path) -> None:
    network = load_model(model)
    assert network.input_shape == (None, 12, 10, 1)
    assert type(network.layers[0]).__name__ == "Rescaling"
