"""The one place for compile options: how every kernel is compiled, where its machine code is kept, how long it took.

* `jit`, `jit_inline` and `parallel_jit` are the only decorators that kernels use.
* Machine code is kept on disk. Numba keys its own cache on the one file a kernel stands in, so that a change in a
  helper of another file would go unseen; ours is keyed on all the files of this folder.
* `compilation` measures the seconds spent compiling, `on_compile` tells which kernel is being compiled.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numba
from numba.core import event
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator
from platformdirs import user_cache_path

#: LLVM may fuse a*b+c (`contract`), reorder sums (`reassoc`), ignore the sign of zero (`nsz`) and use reciprocals
#: (`arcp`). It may not assume that NaN (`nnan`) or infinity (`ninf`) never happen: a diverged loss has to be seen.
FASTMATH = frozenset({"contract", "reassoc", "nsz", "arcp"})

_OPTIONS: dict[str, Any] = {"fastmath": set(FASTMATH), "error_model": "numpy", "boundscheck": False}


class CacheWarning(UserWarning):
    """Compiled kernels can't be kept, so that every process compiles them again."""


@functools.cache
def cache_folder() -> Path | None:
    """The folder that holds compiled kernels, or None where no folder can be written.

    ``NUMBA_CACHE_DIR`` is followed where it is set; otherwise it is the user's cache folder, as the platform names
    it. Its name ends in a digest of the kernels' source, so that kernels of two versions never mix.
    """
    root = os.environ.get("NUMBA_CACHE_DIR") or user_cache_path("fastcnn", appauthor=False)
    folder = Path(root) / f"fastcnn-{_source_digest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as problem:
        warnings.warn(
            f"compiled kernels can't be kept in {folder} ({problem.strerror or problem}), so that each process "
            "compiles them anew; set NUMBA_CACHE_DIR to a folder that can be written",
            CacheWarning,
            stacklevel=2,
        )
        return None
    return folder


@functools.cache
def _source_digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


class _Locator(_CacheLocator):
    """Tells Numba to keep a kernel in `cache_folder` and to trust it while no file of this folder changes."""

    def __init__(self, py_func: Callable[..., Any], py_file: str) -> None:
        self._py_file = py_file  # Numba names it in its warnings
        self._line = py_func.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        return str(cache_folder())

    def get_source_stamp(self) -> str:
        return _source_digest()

    def get_disambiguator(self) -> str:
        return str(self._line)

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> _Locator:
        return cls(py_func, py_file)


class _CacheImpl(CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012


class _KernelCache(FunctionCache):
    """Numba's cache of machine code in our folder; a full disk or a vanished folder costs the cache, not the run."""

    _impl_class = _CacheImpl

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception as problem:  # a damaged file can raise nearly anything while it is unpickled
            warnings.warn(
                f"a compiled kernel could not be read and is compiled anew ({problem})",
                CacheWarning,
                stacklevel=2,
            )
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as problem:
            warnings.warn(f"a compiled kernel could not be kept ({problem})", CacheWarning, stacklevel=2)


def _compile(function: Callable[..., Any], **options: Any) -> Any:
    dispatcher = numba.njit(**_OPTIONS, **options)(function)
    if cache_folder() is not None:
        dispatcher._cache = _KernelCache(function)
    return dispatcher


def jit(function: Callable[..., Any]) -> Any:
    """Compile a serial kernel at its first call, or load it from the cache."""
    return _compile(function, nogil=True)


def parallel_jit(function: Callable[..., Any]) -> Any:
    """Compile a kernel whose `prange` loops run on all threads."""
    return _compile(function, nogil=True, parallel=True)


def jit_inline(function: Callable[..., Any]) -> Any:
    """Compile a helper that kernels call: LLVM always inlines it, and it is never compiled by itself."""
    return numba.njit(forceinline=True, **_OPTIONS)(function)


@dataclass
class Compilation:
    """What was compiled inside a `with compilation()` block.

    Attributes:
        seconds: wall-clock seconds spent compiling.
        kernels: names of the functions that were compiled, helpers included, in the order they were begun.
    """

    seconds: float = 0.0
    kernels: list[str] = field(default_factory=list)


class _CompileListener(event.Listener):
    """Hears Numba's compile events; they nest (a kernel compiles its helpers), and only the outermost are timed."""

    def __init__(self, on_kernel: Callable[[str], None]) -> None:
        self._on_kernel = on_kernel
        self._depth = 0
        self._begun = 0.0
        self.seconds = 0.0

    def on_start(self, event: Any) -> None:
        if self._depth == 0:
            self._begun = time.perf_counter()
            self._on_kernel(event.data["dispatcher"].py_func.__name__)
        self._depth += 1

    def on_end(self, event: Any) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.seconds += time.perf_counter() - self._begun


@contextmanager
def on_compile(callback: Callable[[str], None]) -> Iterator[None]:
    """Call `callback(name)` when a kernel begins to be compiled inside the block (not when the cache has it)."""
    with event.install_listener("numba:compile", _CompileListener(callback)):
        yield


@contextmanager
def compilation() -> Iterator[Compilation]:
    """Measure what is compiled inside the block; the figures are complete when it ends."""
    result = Compilation()
    listener = _CompileListener(result.kernels.append)
    try:
        with event.install_listener("numba:compile", listener):
            yield result
    finally:
        result.seconds = listener.seconds
