"""The commands as people type them: what they print, what they write, and their exit status."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from small_images import bars

import fastcnn
from fastcnn import recipes
from fastcnn.backends.numba import jit
from fastcnn.cli import commands, display, system
from fastcnn.compare import Comparison, Row
from fastcnn.datasets import load_idx_folder
from fastcnn.layers import Conv2D, Dense, Flatten, MaxPooling2D
from fastcnn.losses import SparseCategoricalCrossentropy
from fastcnn.models import load_model

KEYS = {"recipe", "backend", "seed", "threads", "n_train", "n_test", "seconds", "epochs"}
EPOCH_KEYS = {"epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds"}


class Result(NamedTuple):
    status: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Run a command in this process, in an empty folder."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr("warnings.formatwarning", None)  # `main` sets it; this puts the old one back

    def run_command(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["fastcnn", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            commands.main()
        captured = capsys.readouterr()
        return Result(int(end.value.code or 0), captured.out, captured.err)

    return run_command


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


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images 12 x 10 of 4 classes."""
    return write_bars(tmp_path_factory.mktemp("data"), (12, 10), 4)


@pytest.fixture(scope="session")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was trained on `data`."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    command = [sys.executable, "-m", "fastcnn", "train", "--quiet", "--data", data, "--model", path]
    subprocess.run(command, check=True)
    return path


def refused(result: Result, *words: str) -> None:
    """One line on stderr with these words in it, exit status 2, and no file left behind."""
    assert result.status == 2, result
    assert result.out == ""
    assert result.err.startswith("fastcnn: ")
    assert result.err.count("\n") == 1
    for word in words:
        assert word in result.err
    assert list(Path.cwd().iterdir()) == []


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


def digit_png(path: Path, label: int, size: int = 60) -> Path:
    """One of the training images, ink on paper, scaled up."""
    images, labels = bars(80, seed=2)
    image = Image.fromarray(255 - images[labels == label][0]).resize((size, size))
    image.save(path)
    return path


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


@pytest.mark.parametrize("ok", [True, False])
def test_the_exit_status_of_compare_is_its_verdict(ok: bool, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Row("dense", "output", 1e-7, 1e-6, True), Row("dense", "weights", 1e-3, 1e-6, ok)]
    speeds = {"reference": 0.05, "im2col": 1e-3, "numba": 2e-6}
    monkeypatch.setattr("fastcnn.compare.compare", lambda *_, **__: Comparison(20, rows, speeds, ok))
    result = run("compare")
    assert result.status == (0 if ok else 1)
    assert ("EXCEEDED" in result.out) is not ok
    for word in ("dense", "weights", "1.0e-06", "50 ms", "25,000"):
        assert word in result.out
    as_json = run("compare", "--json")
    assert as_json.status == (0 if ok else 1)
    assert json.loads(as_json.out)["ok"] is ok


def test_compare_compares(run: Run) -> None:
    result = run("compare", "--samples", 2, "--json")
    assert (result.status, result.err) == (0, "")
    assert json.loads(result.out)["samples"] == 2
    refused(run("compare", "--samples", 0), "--samples=0")


def test_info_prints_what_the_machine_gives(run: Run) -> None:
    content = json.loads(run("info", "--json").out)
    assert content["versions"]["fastcnn"] == fastcnn.__version__
    assert content["versions"]["numpy"] == np.__version__
    assert content["vector_bits"] in (128, 256, 512)
    assert content["threading_layer"] in ("omp", "tbb", "workqueue")
    assert content["threads"] >= 1
    assert set(content["blas"]) == {"name", "version", "kernels"}
    result = run("info")
    assert result.status == 0
    for word in ("processor", content["processor"], "cache folder", f"{content['vector_bits']} bits"):
        assert word in result.out


FAST = system.SystemInfo(
    versions={},
    processor="",
    cores=2,
    vector_bits=512,
    blas={"name": "openblas", "version": None, "kernels": "SkylakeX"},
    threading_layer="omp",
    threads=2,
    cache_folder="cache",
)


@pytest.mark.parametrize(
    ("slow", "word"),
    [
        (replace(FAST, threading_layer="workqueue"), "workqueue"),
        (replace(FAST, blas=FAST.blas | {"kernels": "Haswell"}), "OPENBLAS_CORETYPE"),
        (replace(FAST, cache_folder=None), "NUMBA_CACHE_DIR"),
        (replace(FAST, vector_bits=128), "SSE"),
        (replace(FAST, threads=1), "1 of 2 cores"),
    ],
)
def test_what_is_slow_is_said(slow: system.SystemInfo, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "is_x86", lambda: True)
    assert system.find_slow(FAST, {"avx512f"}) == []
    (warning,) = system.find_slow(slow, {"avx512f"})
    assert word in warning


def test_haswell_kernels_are_right_for_a_haswell() -> None:
    assert system.find_slow(replace(FAST, blas=FAST.blas | {"kernels": "Haswell"}), {"avx2"}) == []


def test_after_warmup_nothing_is_left_to_compile(run: Run) -> None:
    first, second = run("warmup"), run("warmup")
    assert first.status == second.status == 0
    assert "nothing to compile" in second.out
    assert "compiling" not in second.out


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["blog", "keras-convnet", "small-convnet"])
def test_all_kernels_are_compiled_before_the_first_epoch(recipe: str, tmp_path: Path) -> None:
    """So that the seconds of training are those of training."""
    options = ["--limit", "500", "--batch-size", "64", "--epochs", "1"]
    command = [sys.executable, "-m", "fastcnn", "train", recipe, *options]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    before, _, after = result.stdout.partition("Epoch 1/1")
    assert "compiling" in before
    assert "compiling" not in after


def test_without_a_cache_folder_it_works_and_warns_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    command = [sys.executable, "-m", "fastcnn", "info"]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "file")}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert result.stderr.startswith("fastcnn: warning: ")
    assert result.stderr.count("\n") == 1
    assert "cache folder     none" in result.stdout
    assert "NUMBA_CACHE_DIR" in result.stdout


@pytest.mark.parametrize(("folder", "line"), [(None, "compiling infer\n"), (Path(), "infer (kept for the next run)\n")])
def test_kernels_are_said_to_be_kept_where_they_are(
    folder: Path | None, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jit, "cache_folder", lambda: folder)
    monkeypatch.setattr(jit, "on_compile", lambda tell: tell("infer"))
    commands._compiling(Console())
    assert capsys.readouterr().out.endswith(line)


def test_plot_without_matplotlib_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_load", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    refused(run("train", "--plot", "curves.png"), "pip install fastcnn[plot]")


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs the extra `plot`")
def test_plot_draws_the_curves(run: Run, data: Path) -> None:
    assert run("train", "--quiet", "--data", data, "--plot", "curves.png").status == 0
    with Image.open("curves.png") as image:
        assert image.width > 400


def test_version_and_help() -> None:
    for command in (["--version"], ["--help"], ["train", "--help"]):
        result = subprocess.run([sys.executable, "-m", "fastcnn", *command], capture_output=True, text=True, check=True)
        assert result.stdout.startswith(("fastcnn", "Usage: fastcnn"))
    unwrapped = " ".join(result.stdout.split())
    for recipe in recipes.RECIPES.values():
        assert f"{recipe.name} {recipe.description}" in unwrapped


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux' device that is always full")
@pytest.mark.parametrize("arguments", [["--help"], ["info", "--json"], ["compare", "--samples", "1"]])
def test_output_that_cannot_be_written_ends_in_one_line(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fastcnn", *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "fastcnn: cannot write the output: No space left on device\n"


def test_error_lines_stay_one_line_whatever_a_file_is_called(run: Run) -> None:
    refused(run("evaluate", "a\nb\x1b[31m.safetensors"), "a b [31m.safetensors")
