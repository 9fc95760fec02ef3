"""`fastcnn train` as people type it: what it prints, what it writes, and its exit status."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run, digit_png, refused, write_bars
from PIL import Image
from small_images import bars

from fastcnn.cli import commands, display

KEYS = {"recipe", "backend", "seed", "threads", "n_train", "n_test", "seconds", "epochs"}
EPOCH_KEYS = {"epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds"}


def test_training_shows_its_figures_and_writes_what_was_asked_for(run: Run, data: Path) -> None:
    result = run("train", "--data", data, "--model", "m.safetensors", "--history", "h.json", "--epochs", 4)
    assert result.status == 0
    assert result.err == ""
    for word in ("Epoch 4/4", "val_accuracy", "images a second", "data", "compile", "78.0%", "97.4%"):
        assert word in result.out
    assert sorted(os.listdir()) == ["h.json", "m.safetensors"]

    history = json.loads(Path("h.json").read_text())
    assert set(history) == KEYS
    assert history["recipe"] == "blog"
    assert history["backend"] == "numba"
    assert history["seed"] == 0
    assert history["threads"] >= 1
    assert (history["n_train"], history["n_test"]) == (300, 80)
    assert set(history["seconds"]) == {"data", "compile", "train", "test"}
    assert [epoch["epoch"] for epoch in history["epochs"]] == [1, 2, 3, 4]
    assert all(set(epoch) == EPOCH_KEYS for epoch in history["epochs"])
    assert history["epochs"][-1]["val_accuracy"] > 0.9

    result = run("evaluate", "m.safetensors", "--data", data, "--json")
    assert result.status == 0
    found = json.loads(result.out)
    assert found["accuracy"] == pytest.approx(history["epochs"][-1]["val_accuracy"])
    assert found["loss"] == pytest.approx(history["epochs"][-1]["val_loss"], rel=1e-4)
    p = found["accuracy"]
    assert found["standard_error"] == pytest.approx((p * (1 - p) / 80) ** 0.5)
    confusion = np.array(found["confusion"])
    assert confusion.shape == (4, 4)
    assert confusion.sum() == found["n_test"] == 80
    assert np.trace(confusion) / 80 == pytest.approx(p)
    assert confusion.sum(axis=1).tolist() == np.bincount(bars(80, seed=2)[1]).tolist()


@pytest.mark.parametrize("recipe", ["blog-softmax", "blog-keras"])
def test_the_other_recipes_train(recipe: str, run: Run, data: Path) -> None:
    arguments = ("--data", data, "--history", "h.json", "--batch-size", 20, "--epochs", 2)
    assert run("train", recipe, *arguments).status == 0
    assert json.loads(Path("h.json").read_text())["recipe"] == recipe


@pytest.mark.parametrize(
    ("recipe", "setting", "published"),
    [("keras-convnet", "12 epochs", "99.25%"), ("small-convnet", "1 epoch", "99.04%")],
)
def test_the_convnets_take_every_option(recipe: str, setting: str, published: str, run: Run, tmp_path: Path) -> None:
    """Other sizes and classes, mini-batches, files; then the model file is evaluated and reads an image."""
    larger = write_bars(tmp_path, (20, 16), 3)
    options = ("--epochs", 2, "--batch-size", 30, "--limit", 100, "--seed", 5, "--learning-rate", 0.02)
    outputs = ("--model", "m.safetensors", "--history", "h.json")
    result = run("train", recipe, "--data", larger, *options, *outputs)
    assert (result.status, result.err) == (0, "")
    for word in ("Epoch 2/2", "100 images", "2 epochs", setting, published, "as published"):
        assert word in result.out
    assert "a step of the loops" not in result.out
    history = json.loads(Path("h.json").read_text())
    assert set(history) == KEYS
    assert all(set(epoch) == EPOCH_KEYS for epoch in history["epochs"])
    assert (history["recipe"], history["seed"], history["n_train"], history["n_test"]) == (recipe, 5, 100, 80)

    found = json.loads(run("evaluate", "m.safetensors", "--data", larger, "--json").out)
    assert found["accuracy"] == pytest.approx(history["epochs"][-1]["val_accuracy"])
    assert len(found["confusion"]) == 3
    answer = run("predict", "m.safetensors", digit_png(tmp_path / "1.png", 1))
    assert (answer.status, answer.err) == (0, "")
    shares = [float(line.split()[1].rstrip("%")) for line in answer.out.splitlines()[-3:]]
    assert sum(shares) == pytest.approx(100, abs=0.3)

    losses = [epoch["loss"] for epoch in history["epochs"]]
    for backend in (("--threads", 1), ("--backend", "im2col")):
        again = run("train", recipe, "--quiet", "--data", larger, *options, "--history", "h.json", *backend)
        assert again == (0, "", "")
        close = [epoch["loss"] for epoch in json.loads(Path("h.json").read_text())["epochs"]]
        assert close == pytest.approx(losses, rel=1e-3)


def test_images_too_small_for_a_recipe_are_refused(run: Run, data: Path) -> None:
    refused(run("train", "small-convnet", "--data", data), "max_pooling2d_1", "2x1 images")


def test_shares_near_one_show_a_digit_more() -> None:
    assert [display._percent(share) for share in (0.974, 0.9799, 0.9925, None)] == ["97.4%", "98.0%", "99.25%", ""]


def test_options_reach_the_training(run: Run, data: Path) -> None:
    def losses(*options: object) -> list[float]:
        assert run("train", "--quiet", "--data", data, "--history", "h.json", *options) == (0, "", "")
        return [epoch["loss"] for epoch in json.loads(Path("h.json").read_text())["epochs"]]

    usual = losses()
    assert losses() == usual
    assert losses("--threads", 1) == usual
    assert losses("--epochs", 3, "--batch-size", 1, "--learning-rate", 0.005, "--seed", 0) == usual
    assert losses("--epochs", 1) == usual[:1]
    for option in (("--batch-size", 7), ("--learning-rate", 0.01), ("--seed", 1), ("--limit", 100)):
        assert losses(*option)[0] != usual[0], option
    assert losses("--backend", "im2col") == pytest.approx(usual, rel=1e-3)
    assert losses("--limit", 10_000) == usual
    assert losses("--batch-size", 10**20) == losses("--batch-size", 300)


@pytest.mark.parametrize(("limit", "expected"), [(7, (7, 7)), (100, (100, 80)), (1000, (300, 80))])
def test_limit_keeps_the_first_images_of_both_sets(limit: int, expected: tuple[int, int], run: Run, data: Path) -> None:
    assert run("train", "--quiet", "--data", data, "--history", "h.json", "--limit", limit).status == 0
    history = json.loads(Path("h.json").read_text())
    assert (history["n_train"], history["n_test"]) == expected


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--epochs", "0"], ["--epochs=0"]),
        (["--epochs", "-3"], ["--epochs=-3"]),
        (["--batch-size", "0"], ["--batch-size=0"]),
        (["--learning-rate", "0"], ["--learning-rate=0"]),
        (["--learning-rate", "-0.1"], ["--learning-rate=-0.1"]),
        (["--learning-rate", "nan"], ["--learning-rate=nan"]),
        (["--learning-rate", "inf"], ["--learning-rate=inf"]),
        (["--limit", "0"], ["--limit=0"]),
        (["--seed", "-1"], ["--seed=-1"]),
        (["--threads", "0"], ["--threads=0"]),
        (["--threads", "2", "--backend", "im2col"], ["--threads 2", "im2col"]),
        (["--backend", "cuda"], ["--backend='cuda'", "numba"]),
        (["resnet"], ["recipe='resnet'", "blog-keras"]),
        (["--model", "nowhere/m.safetensors"], ["--model nowhere/m.safetensors", "No such file"]),
        (["--model", "."], ["--model .", "directory"]),
        (["--history", f"{__file__}/h.json"], ["--history", "can't be written"]),
        (["--plot", "curves.txt"], ["--plot"]),
    ],
)
def test_bad_options_are_refused_before_anything_is_loaded(
    options: Sequence[str], words: Sequence[str], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_load", None)
    refused(run("train", *options), *words)


def test_more_threads_than_cores_are_refused(run: Run, data: Path) -> None:
    refused(run("train", "--data", data, "--threads", 100_000), "threads=100000")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_load", None)
    (tmp_path / "locked").mkdir(mode=0o500)
    refused(run("train", "--model", tmp_path / "locked" / "m.safetensors"), "Permission denied")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name, as POSIX has them")
@pytest.mark.parametrize("option", ["--model", "--history"])
def test_what_is_no_file_is_refused_and_stays(option: str, run: Run, tmp_path: Path) -> None:
    """A rename would put a file in its place: as root, of /dev/null."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    refused(run("train", option, pipe), option, "Is a device or a pipe")
    assert pipe.is_fifo()


def test_two_outputs_in_one_file_are_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_load", None)
    refused(run("train", "--model", "a", "--history", "./a"), "--model a", "--history a")


@pytest.mark.parametrize(
    "arguments", [["train", "--epochs", "many"], ["train", "--no-such-option"], ["evaluate"], ["nothing"]]
)
def test_wrong_usage_has_exit_status_2(arguments: Sequence[str], run: Run) -> None:
    result = run(*arguments)
    assert result.status == 2
    assert "Usage: fastcnn" in result.err
    assert "Traceback" not in result.err


def test_training_that_diverges_stops_and_writes_nothing(run: Run, data: Path) -> None:
    result = run("train", "--data", data, "--learning-rate", 1e30, "--model", "m.safetensors", "--history", "h.json")
    assert result.status == 2
    assert result.err.count("\n") == 1
    for word in ("fastcnn: ", "step", "learning rate"):
        assert word in result.err
    assert os.listdir() == []


def test_damaged_data_are_named(run: Run, data: Path, tmp_path: Path) -> None:
    refused(run("train", "--data", tmp_path / "none"), "none: no such folder")
    for name in os.listdir(data):
        (tmp_path / name).write_bytes((data / name).read_bytes())
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1])
    refused(run("train", "--data", tmp_path, "--model", "m.safetensors"), str(labels))


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Processes started now heed Ctrl-C, also where a shell started this one in the background, deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_with_one_line_and_no_file(data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fastcnn", "train", "--data", data, "--epochs", "1000000"]
    outputs = ["--model", "m.safetensors", "--history", "h.json"]
    pipes: dict[str, Any] = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        "cwd": tmp_path,
    }
    with subprocess.Popen([*command, *outputs], **pipes) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Epoch 3/"):
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == "fastcnn: stopped by Ctrl-C\n"
    assert list(tmp_path.iterdir()) == []


def test_quiet_training_prints_nothing(run: Run, data: Path) -> None:
    assert run("train", "--quiet", "--data", data, "--epochs", 1) == (0, "", "")


def test_plot_without_matplotlib_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_load", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    refused(run("train", "--plot", "curves.png"), "pip install fastcnn[plot]")


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs the extra `plot`")
def test_plot_draws_the_curves(run: Run, data: Path) -> None:
    assert run("train", "--quiet", "--data", data, "--plot", "curves.png").status == 0
    with Image.open("curves.png") as image:
        assert image.width > 400
