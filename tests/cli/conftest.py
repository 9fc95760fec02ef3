"""Commands run in this process, on a few small images and a model that they trained."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Result, write_bars

from fastcnn.cli import commands


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
