"""Plain numpy: the network on fastcnn's middle rung, im2col and matrix products, without a compiler."""

from __future__ import annotations

import platform

import numpy as np

from benchmarks.peers.engines import ours


class Engine(ours.Engine):
    """See `benchmarks.peers.engines`."""

    backend = "im2col"

    def versions(self) -> dict[str, str]:
        return {"numpy": np.__version__, "python": platform.python_version()}
