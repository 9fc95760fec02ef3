"""The vector kernels at the widths of other processors: eight floats (AVX) and four (SSE), compiled for them here."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from fastcnn.backends.numba import simd
assert simd.LANES == int(sys.argv[1]), simd.LANES
import pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[2:]]))
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names the features of x86 processors")
@pytest.mark.parametrize(
    ("lanes", "name", "features"),
    [(8, "haswell", "+avx,+avx2,+fma,+bmi,+bmi2,+f16c"), (4, "nehalem", "+sse4.1,+sse4.2,+popcnt")],
    ids=["avx2", "sse"],
)
def test_the_kernels_are_right_at_other_widths(lanes: int, name: str, features: str, tmp_path: Path) -> None:
    here = Path(__file__).parent
    chosen = "tutorial or colour or forty-seven or other-diagonals or wider or (larger_shapes and dense)"
    chosen += " or winograds_maxima or found_equal or background or short_windows or half_a_vector or no_number"
    chosen += " or equal_pixels"
    files = [str(here / name) for name in ("test_fused.py", "test_operations.py", "test_conv_pool.py")]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(lanes), *files, "-k", chosen],
        env=os.environ | {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_vectors_are_as_wide_as_numba_allows() -> None:
    """Without AVX there is no AVX-512 either: with its instructions all the same, LLVM ended the process."""
    done = subprocess.run(
        [sys.executable, "-c", "from fastcnn.backends.numba import simd; assert simd.LANES == 4, simd.LANES"],
        env=os.environ | {"NUMBA_ENABLE_AVX": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
