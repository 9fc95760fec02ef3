"""The one place for compile options: how every kernel is compiled, where its machine code is kept, how long it took.

* `jit` and `parallel_jit` are for kernels that Python calls, `jit_part` and `jit_inline` for what only kernels call.
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
from numba.core import compiler, event
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator
from numba.core.codegen import JITCodeLibrary, JITCPUCodegen
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
    folder = Path(__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
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


# --- parts -----------------------------------------------------------------------------------------------------------
#
# Numba optimises each function, and gives it machine code, when it is compiled; what calls it takes its code in and
# does all that again. With functions four deep and two wrappers around each parallel loop, that was half to two thirds
# of the seconds before a first step (12 -> 6 for the tutorial network, 20 -> 7 in mini-batches). What no one but a
# kernel calls is therefore only translated here, and optimised once, inside that kernel. Numba's own steps do the rest:
# should a later version not ask for the methods below, parts are compiled as ever.


class _PartLibrary(JITCodeLibrary):
    """Code that is linked into kernels and never runs by itself: neither optimised nor given machine code."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        return 0  # what Numba takes for "not in this library"


class _PartCodegen(JITCPUCodegen):
    """Numba's code generator, with the same settings and the same machine, but for parts."""

    _library_class = _PartLibrary

    def __init__(self, codegen: JITCPUCodegen) -> None:
        self.__dict__.update(codegen.__dict__)

    def set_env(self, env_name: str, env: Any) -> None:
        """Without machine code there is no place for the function's globals, which compiled code doesn't read."""


@functools.cache
def _part_context(context: Any) -> Any:
    """`context`, generating parts; or itself, where Numba no longer offers that."""
    try:
        return context.subtarget(_internal_codegen=_PartCodegen(context.codegen()))
    except (AttributeError, NameError):
        return context


class _PartCompiler(compiler.Compiler):
    def __init__(self, typingctx: Any, targetctx: Any, *args: Any) -> None:
        super().__init__(typingctx, _part_context(targetctx), *args)


class _ParallelCompiler(compiler.Compiler):
    """Compiles a kernel whose loops' bodies are parts: Numba makes each a function of its own, with two wrappers."""

    def __init__(self, typingctx: Any, targetctx: Any, library: Any, *args: Any) -> None:
        if library is None:
            library = targetctx.codegen().create_library("parallel kernel")
            library.enable_object_caching()
        super().__init__(typingctx, _part_context(targetctx), library, *args)


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
    return _compile(function, nogil=True, parallel=True, pipeline_class=_ParallelCompiler)


def jit_part(function: Callable[..., Any]) -> Any:
    """Compile a function that only kernels call, as part of each that does. Python can't call it."""
    return _compile_part(function)


def jit_inline(function: Callable[..., Any]) -> Any:
    """As `jit_part`, for a helper that LLVM always inlines."""
    return _compile_part(function, forceinline=True)


def _compile_part(function: Callable[..., Any], **options: Any) -> Any:
    options |= {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "pipeline_class": _PartCompiler}
    return numba.njit(**_OPTIONS, **options)(function)


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
