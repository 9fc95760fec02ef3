"""Who takes part: fastcnn and its peers, and the environments they live in."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.peers.protocol import PeerError

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parent / ".peers"


@dataclass(frozen=True)
class Participant:
    """One library.

    Attributes:
        name: on the command line, in the results.
        title: for people.
        engine: the module in `benchmarks.peers.engines`.
        installed_apart: whether it has an environment of its own, made from ``requirements-NAME.txt``.
        ties: which greatest elements of a pooling window receive the gradient.
    """

    name: str
    title: str
    engine: str
    installed_apart: bool = True
    ties: Literal["first", "all"] = "first"

    @property
    def folder(self) -> Path:
        return ENVIRONMENTS / self.name

    @property
    def requirements(self) -> Path:
        return HERE / f"requirements-{self.name}.txt"

    @property
    def python(self) -> Path:
        """The interpreter that runs it."""
        if not self.installed_apart:
            return Path(sys.executable)
        return self.folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")

    def missing(self) -> str | None:
        """Why it can't be measured, in one line, or None."""
        if not self.installed_apart:
            return None
        if not self._stamp().exists():
            return f"not installed: python -m benchmarks.peers install {self.name}"
        if self._stamp().read_text() != self.requirements.read_text():
            return f"installed for other versions: python -m benchmarks.peers install {self.name}"
        return None

    def install(self) -> None:
        """Make its environment anew.

        Raises:
            PeerError: its packages can't be installed.
        """
        shutil.rmtree(self.folder, ignore_errors=True)
        venv.create(self.folder, with_pip=True)
        pip = [str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*pip, "-r", str(self.requirements)], capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            raise PeerError(f"{self.name}: pip failed: {lines[-1] if lines else done.returncode}")
        self._stamp().write_text(self.requirements.read_text())

    def _stamp(self) -> Path:
        """Written when the installation is complete: what was installed."""
        return self.folder / "installed.txt"


OURS = Participant("fastcnn", "fastcnn", "ours", installed_apart=False)

PEERS: dict[str, Participant] = {
    peer.name: peer
    for peer in (
        Participant("torch", "PyTorch", "pytorch"),
        Participant("jax", "JAX", "jax_scan"),
        Participant("keras", "Keras on TensorFlow", "keras_tf"),
        Participant("im2col", "numpy, im2col", "im2col", installed_apart=False),
        Participant("loops", "the tutorial's loops", "loops", installed_apart=False, ties="all"),
    )
}
