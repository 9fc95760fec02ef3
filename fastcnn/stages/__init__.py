"""How a list of layers runs: layers say what, stages say how.

`plan` turns layers into a `StagePlan`: one stage a layer, on any backend. `fused_plan` recognises the
tutorial's network, whose whole pass over the data is one compiled function, and answers with a `FusedPlan`.
Both are a `Plan`, so training and inference need not know which they run.
"""

from __future__ import annotations

from fastcnn.stages.base import Plan
from fastcnn.stages.layerwise import StagePlan, ends_in_softmax, plan
from fastcnn.stages.stage import Stage
from fastcnn.stages.tutorial import FusedPlan, fused_plan, recognise

__all__ = [
    "DTYPES",
    "FusedPlan",
    "Plan",
    "Stage",
    "StagePlan",
    "ends_in_softmax",
    "fused_plan",
    "plan",
    "recognise",
]

#: The types that a model may keep its weights in, by backend; the first is the default.
DTYPES = {"reference": ("float64",), "im2col": ("float32", "float64"), "numba": ("float32",)}
