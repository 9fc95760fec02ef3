"""The worker process: `python -m benchmarks.peers.worker ENGINE THREADS`, requests on stdin, answers on stdout."""

from __future__ import annotations

import gc
import importlib
import os
import sys
import time
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks.peers.engines import EngineProtocol, Restartable, Task
from benchmarks.peers.problem import Problem
from benchmarks.peers.protocol import decode, encode
from benchmarks.peers.workloads import Workload


class Server:
    """Answers requests with one engine.

    Args:
        engine: runs the workloads.
    """

    def __init__(self, engine: EngineProtocol) -> None:
        self._engine = engine
        self._problem: Problem | None = None
        self._task: Task | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request; errors become answers too."""
        try:
            handler = getattr(self, f"_do_{request.get('do')}", None)
            if handler is None:
                raise ValueError(f"unknown request {request.get('do')!r}")
            return {"ok": True, **(handler(request) or {})}
        except Exception as problem:  # whatever a library raises is the report's to show
            lines = str(problem).strip().splitlines()
            return {"ok": False, "error": f"{type(problem).__name__}: {lines[0] if lines else ''}"[:300]}

    def _do_hello(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"versions": self._engine.versions()}

    def _do_load(self, request: dict[str, Any]) -> None:
        self._problem = Problem.load(Path(request["path"]))

    def _do_variants(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"variants": self._engine.variants(Workload(**request["workload"]))}

    def _do_prepare(self, request: dict[str, Any]) -> None:
        if self._problem is None:
            raise ValueError("no problem is loaded")
        self._task = None
        workload = Workload(**request["workload"])
        self._task = self._engine.task(workload, request["variant"], int(request["samples"]), self._problem)

    def _do_run(self, request: dict[str, Any]) -> dict[str, Any]:
        task, times = self._prepared(), int(request["times"])
        gc.collect()
        begun = time.perf_counter()
        for _ in range(times):
            task.run()
        return {"seconds": (time.perf_counter() - begun) / times}

    def _do_restart(self, request: dict[str, Any]) -> None:
        cast("Restartable", self._prepared()).restart(int(request["seed"]))

    def _do_outcome(self, request: dict[str, Any]) -> None:
        np.savez(request["path"], **self._prepared().outcome())

    def _prepared(self) -> Task:
        if self._task is None:
            raise ValueError("no task is prepared")
        return self._task


def hold_to(threads: int) -> None:
    """Let this process, and every thread it will start, run on that many processors only."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def main(engine: str, threads: int) -> None:
    """Serve until the input ends. What libraries print goes to stderr."""
    hold_to(threads)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    module = importlib.import_module(f"benchmarks.peers.engines.{engine}")
    server = Server(module.Engine(threads))
    for line in sys.stdin.buffer:
        answers.write(encode(server.answer(decode(line))))
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
