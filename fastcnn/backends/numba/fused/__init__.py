"""The tutorial network in compiled loops: what a step does, filter by filter, and the loops over images around it."""

from fastcnn.backends.numba.fused.network import FusedNetwork

__all__ = ["FusedNetwork"]
