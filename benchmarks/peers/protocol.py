"""One line of JSON there, one line of JSON back: how the report talks to a worker process.

Requests, and what the answer holds beside "ok":

* ``{"do": "hello"}``: "versions", of the library;
* ``{"do": "load", "path": ...}``: nothing; reads the `Problem`;
* ``{"do": "variants", "workload": {...}}``: "variants";
* ``{"do": "prepare", "workload": {...}, "variant": ..., "samples": N}``: nothing; makes the task, not run yet;
* ``{"do": "run", "times": N}``: "seconds" that one of N runs of the task took, on average;
* ``{"do": "restart", "seed": N}``: nothing; training begins anew, from other weights and in another order;
* ``{"do": "outcome", "path": ...}``: nothing; writes what the task computed to that .npz file.

An answer with "ok" false has "error" in one line instead. The worker ends when its input does.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.workloads import Workload

ROOT = Path(__file__).parents[2]

#: Seconds that one answer may take (torch.compile compiles with a C++ compiler).
PATIENCE = 600.0


class PeerError(Exception):
    """A worker did not do what it was asked; the message is one line."""


def encode(message: Mapping[str, Any]) -> bytes:
    """A message as one line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The message in one line.

    Raises:
        PeerError: it is none.
    """
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        raise PeerError(f"expected a line of JSON, got {line[:80]!r}")
    return message


def answer_of(line: bytes) -> dict[str, Any]:
    """The answer in one line.

    Raises:
        PeerError: the worker reports an error, or the line is no answer.
    """
    if not line:
        raise PeerError("the worker ended without an answer")
    answer = decode(line)
    if answer.get("ok") is not True:
        raise PeerError(str(answer.get("error", "the answer has neither ok nor error")))
    return answer


def environment(threads: int) -> dict[str, str]:
    """This process' environment, with everything that decides about threads set.

    And glibc keeps freed memory, for everybody: large arrays that go back to the system cost a page fault for every
    4 KB when they are made anew. (PyTorch's tuning guide has other allocators loaded for that.) It saves PyTorch and
    Keras about a fifth of keras-convnet's training, and fastcnn, which allocates once, nothing.
    """
    names = (
        "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "NPROC",
        "TF_NUM_INTRAOP_THREADS",
    )  # fmt: skip
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))},
        **dict.fromkeys(names, str(threads)),
        "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
        "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
        "TF_NUM_INTEROP_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "KERAS_BACKEND": "tensorflow",
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "-1",
    }


def kept_in(folder: Path) -> dict[str, str]:
    """What makes every library that can keep what it compiles keep it in that folder, however little it is."""
    return {
        "NUMBA_CACHE_DIR": str(folder),
        "TORCHINDUCTOR_CACHE_DIR": str(folder),
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


class Worker:
    """A worker process, held to some cores; a context manager.

    Args:
        python: the interpreter of the library's environment.
        engine: the module in `benchmarks.peers.engines`.
        threads: cores and threads that it may use.
        caches: where the library keeps what it compiles; None is where it usually does, if at all.

    Raises:
        PeerError: it does not start, or the library in it doesn't.
    """

    def __init__(self, python: Path, engine: str, threads: int, caches: Path | None = None) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        self._process = subprocess.Popen(
            [str(python), "-m", "benchmarks.peers.worker", engine, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=ROOT,
            env=environment(threads) | ({} if caches is None else kept_in(caches)),
            bufsize=0,
        )
        try:
            self.versions: dict[str, str] = self.ask({"do": "hello"})["versions"]
        except BaseException:
            self.close()
            raise

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            PeerError: the worker reports an error, ends, or takes longer than `PATIENCE`.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(encode(request))
            return answer_of(self._line())
        except BrokenPipeError:
            raise PeerError(f"the worker ended: {self._last_words()}") from None
        except PeerError as problem:
            if self._process.poll() is None:
                raise
            raise PeerError(f"{problem}: {self._last_words()}") from None

    def load(self, path: Path) -> None:
        """Let it read the `Problem` in a file."""
        self.ask({"do": "load", "path": str(path)})

    def variants(self, workload: Workload) -> list[str]:
        return [str(variant) for variant in self.ask({"do": "variants", "workload": workload.to_json()})["variants"]]

    def prepare(self, workload: Workload, variant: str, samples: int) -> None:
        self.ask({"do": "prepare", "workload": workload.to_json(), "variant": variant, "samples": samples})

    def run(self, times: int = 1) -> float:
        """Seconds that one of so many runs of the prepared task took, on average."""
        return float(self.ask({"do": "run", "times": times})["seconds"])

    def restart(self, seed: int) -> None:
        self.ask({"do": "restart", "seed": seed})

    def outcome(self) -> dict[str, Any]:
        """What the task computed: arrays under the names that `Task.outcome` gives."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "outcome.npz"
            self.ask({"do": "outcome", "path": str(path)})
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        deadline, line = time.monotonic() + PATIENCE, b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self._process.kill()
                    raise PeerError(f"no answer within {PATIENCE:.0f} s")
                part = os.read(self._process.stdout.fileno(), 1 << 16)
                if not part:
                    self._process.wait()
                    return b""
                line += part
        return line

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else "it said nothing"

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
