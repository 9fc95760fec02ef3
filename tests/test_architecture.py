"""The house rules that a reader relies on, held by reading the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fastcnn"
FILES = sorted(PACKAGE.rglob("*.py"))

#: From the bottom up. A part imports only from the rows below its own; folders count as one part.
ROWS = (
    {"errors"},
    {"absent"},
    {"arguments", "backend", "files"},
    {"backends", "callbacks", "datasets", "initializers", "utils"},
    {"layers", "losses"},
    {"blog", "optimizers", "reference"},
    {"stages"},
    {"training"},
    {"models"},
    {"recipes"},
    {"compare"},
    {"cli"},
    {"__main__"},
)


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> Iterator[str]:
    """Every module that a file imports, at its top or in a function: "fastcnn.layers.base", "math"."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def imported_parts(path: Path) -> set[str]:
    """The parts of the package that a file imports; `fastcnn.__version__` alone doesn't count."""
    names = {name.split(".")[1] for name in imported_modules(path) if name.startswith("fastcnn.")}
    return {name for name in names if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downwards_only(path: Path) -> None:
    rank = {part: row for row, parts in enumerate(ROWS) for part in parts}
    part = part_of(path)
    if part == "__init__":
        return  # the public names, looked up when they are asked for
    assert part in rank, f"give {part} a place in ROWS"
    upwards = {other for other in imported_parts(path) if other != part and rank[other] >= rank[part]}
    assert not upwards


def test_the_rows_hold_nothing_that_is_gone() -> None:
    assert set().union(*ROWS) == {part_of(path) for path in FILES} - {"__init__"}


def test_the_reference_is_an_island() -> None:
    """It imports numpy, the standard library and itself: nothing that it checks."""
    files = sorted((PACKAGE / "backends" / "reference").glob("*.py"))
    assert {file.stem for file in files} >= {"conv", "pool", "dense", "activations", "normalization", "losses"}
    names = {name for file in files for name in imported_modules(file)}
    others = {name for name in names if not f"{name}.".startswith("fastcnn.backends.reference.")}
    assert {name.split(".")[0] for name in others} - set(sys.stdlib_module_names) == {"numpy"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_compile_options_stand_in_jit_and_nothing_is_pickled(path: Path) -> None:
    tree = ast.parse(path.read_text())
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {name.rpartition(".")[2] for name in imported_modules(path)}
    assert not names & {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve"}
    options = [word for node in ast.walk(tree) if isinstance(node, ast.Call) for word in node.keywords]
    for word in options:
        value = word.value.value if isinstance(word.value, ast.Constant) else None
        assert not (word.arg == "fastmath" and value is True)
        assert not (word.arg == "allow_pickle" and value is not False)
    if path.name != "jit.py":
        assert not names & {"njit", "vectorize", "guvectorize", "stencil", "cfunc"}
        assert not {word.arg for word in options} & {
            "fastmath",
            "nogil",
            "parallel",
            "boundscheck",
            "error_model",
        }
        assert "numba.jit" not in set(imported_modules(path))


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import fastcnn", {"numba", "numpy", "rich", "PIL", "typer", "safetensors"}),
        ("import fastcnn.cli", {"numba", "numpy", "rich.progress", "PIL", "safetensors"}),
        ("import fastcnn.reference", {"numba", "rich"}),
        ("import fastcnn.datasets", {"numba", "rich"}),
        ("import fastcnn.models, fastcnn.recipes", {"numba", "PIL"}),
        ("import fastcnn.backends.im2col", {"numba"}),
    ],
)
def test_imports_stay_light(statement: str, absent: set[str]) -> None:
    script = f"{statement}\nimport sys\nprint(*sorted({absent!r} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
