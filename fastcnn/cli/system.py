"""What this machine gives to fastcnn: processor, vector width, BLAS, threads, cache; and what of it is
slow."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class SystemInfo:
    """The figures that `fastcnn info` prints.

    Attributes:
        versions: fastcnn, python, numpy, numba and llvmlite.
        processor: the processor's name as the operating system gives it.
        cores: logical processors that this process may run on.
        vector_bits: width of the vectors that the kernels use.
        blas: the library behind numpy's matrix product: its name, version and, where it tells, the kernel
            family it chose.
        threading_layer: what runs Numba's parallel loops: "omp", "tbb" or "workqueue".
        threads: how many threads those loops use.
        cache_folder: where compiled kernels are kept; None where nothing can be written.
        warnings: one sentence for each of these that makes fastcnn slow, with what to do.
    """

    versions: dict[str, str]
    processor: str
    cores: int
    vector_bits: int
    blas: dict[str, str | None]
    threading_layer: str
    threads: int
    cache_folder: str | None
    warnings: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def collect() -> SystemInfo:
    """Look at the machine. Runs one small parallel kernel, because Numba names its threading layer only after
    that."""
    import llvmlite
    import numba
    import numpy

    import fastcnn
    from fastcnn.backends.numba import jit, simd

    info = SystemInfo(
        versions={
            "fastcnn": fastcnn.__version__,
            "python": platform.python_version(),
            "numpy": numpy.__version__,
            "numba": numba.__version__,
            "llvmlite": llvmlite.__version__,
        },
        processor=processor_name(),
        cores=available_cores(),
        vector_bits=32 * simd.LANES,
        blas=blas(),
        threading_layer=threading_layer(),
        threads=int(numba.get_num_threads()),
        cache_folder=None if (folder := jit.cache_folder()) is None else str(folder),
    )
    info.warnings = find_slow(info, cpu_features())
    return info


def find_slow(info: SystemInfo, features: set[str]) -> list[str]:
    """Say in plain words what of `info` makes fastcnn slow on a processor with these features, and what to
    do."""
    found = []
    if info.threading_layer == "workqueue":
        found.append(
            "the threading layer is workqueue, which takes about 80 microseconds to start a parallel loop "
            "where OpenMP takes 1; install the OpenMP run-time (libgomp, libomp) or `pip install tbb`"
        )
    if (info.blas["kernels"] or "").lower() == "haswell" and "avx512f" in features:
        found.append(
            "OpenBLAS takes this AVX-512 processor for a Haswell, so that numpy's matrix product (backend "
            "im2col) runs at about half its speed; set OPENBLAS_CORETYPE=SkylakeX in the environment"
        )
    if info.cache_folder is None:
        found.append(
            "compiled kernels can't be kept, so that every start compiles them anew; set NUMBA_CACHE_DIR to "
            "a folder that can be written"
        )
    if info.vector_bits <= 128 and is_x86():
        found.append(
            "vectors are 128 bits wide (SSE): the processor has no AVX2, or a virtual machine hides it; "
            "an eighth to a half of the usual speed is to be expected"
        )
    if info.threads < info.cores:
        found.append(f"{info.threads} of {info.cores} cores are used; see NUMBA_NUM_THREADS in the environment")
    return found


def processor_name() -> str:
    """The processor's name, or at least its architecture."""
    name = ""
    if sys.platform == "linux":
        name = _from_cpuinfo()
    elif sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        name = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return name or platform.processor() or platform.machine()


def available_cores() -> int:
    """How many logical processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64", "i386", "i686", "x86")


def cpu_features() -> set[str]:
    """The processor's features under LLVM's names, such as "avx2" or "avx512f"."""
    from llvmlite import binding

    try:
        return {name for name, present in binding.get_host_cpu_features().items() if present}
    except RuntimeError:  # LLVM can't tell on this platform
        return set()


def threading_layer() -> str:
    """What runs Numba's parallel loops in this process."""
    import numba
    import numpy as np

    from fastcnn.backends import get

    images = np.zeros((64, 8, 8, 1), dtype=np.float32)
    get("numba").conv2d_forward(images, np.zeros((3, 3, 1, 8), dtype=np.float32), None)
    return str(numba.threading_layer())  # type: ignore[attr-defined]


def blas() -> dict[str, str | None]:
    """The library behind numpy's matrix product: {"name", "version", "kernels"}; None stands for what it
    doesn't tell."""
    import numpy

    name = version = None
    try:
        config = numpy.show_config(mode="dicts")["Build Dependencies"]["blas"]
        name, version = config.get("name"), config.get("version")
    except (TypeError, KeyError):  # numpy before 1.25 only prints it
        pass
    return {"name": name, "version": version, "kernels": _openblas_kernels()}


def _openblas_kernels() -> str | None:
    """Ask the OpenBLAS that numpy has loaded which processor it chose its kernels for."""
    for library in _loaded_openblas():
        try:
            handle = ctypes.CDLL(library)
        except OSError:
            continue
        for prefix in ("scipy_openblas", "openblas"):
            for suffix in ("64_", "", "_64"):
                function = getattr(handle, f"{prefix}_get_corename{suffix}", None)
                if function is not None:
                    function.restype = ctypes.c_char_p
                    return bytes(function()).decode()
    return None


def _loaded_openblas() -> list[str]:
    maps = Path("/proc/self/maps")
    if maps.exists():
        fields = (line.split(maxsplit=5) for line in maps.read_text().splitlines())
        return sorted({entry[5] for entry in fields if len(entry) == 6 and "openblas" in Path(entry[5]).name})
    import numpy

    package = Path(numpy.__file__).parent
    folders = (package.parent / "numpy.libs", package / ".dylibs")
    return [str(path) for folder in folders for path in sorted(folder.glob("*openblas*"))]


def _from_cpuinfo() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
