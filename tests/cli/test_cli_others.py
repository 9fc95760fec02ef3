"""The other commands, the help, and errors: `compare`, `info`, `warmup`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import Run, refused
from rich.console import Console

import fastcnn
from fastcnn import recipes
from fastcnn.backends.numba import jit
from fastcnn.cli import commands, system
from fastcnn.compare import Comparison, Row


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
