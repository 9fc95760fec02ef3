"""What the command line prints: tables, bars and drawings of results that others computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastcnn.cli import digits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastcnn.cli.system import SystemInfo
    from fastcnn.compare import Comparison
    from fastcnn.models.evaluation import Evaluation
    from fastcnn.recipes import RunResult

BAR_WIDTH = 40


def show_run(console: Console, run: RunResult, seconds: dict[str, float]) -> None:
    """The table at the end of training: ours, and what others published beside it."""
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("fastcnn", justify="right", style="bold")
    published = run.recipe.published
    for other in published:
        table.add_column(other.source.removeprefix("the "), justify="right")
    blank = [""] * len(published)

    steps = [other.microseconds_per_step for other in published]
    accuracies = [other.accuracy for other in published]
    table.add_row("test accuracy", _percent(run.epochs()[-1]["val_accuracy"]), *map(_percent, accuracies))
    count = len(run.epochs())
    setting = f"{run.n_train:,} images, {count} epoch{'s'[: count - 1]}, batch size {run.batch_size}"
    settings = [setting, *(other.setting for other in published)]
    table.add_row("trained on", *(text.replace(", ", "\n") for text in settings))
    table.add_row("a step", _duration(run.microseconds_per_step * 1e-6), *(_duration(s and s * 1e-6) for s in steps))
    table.add_row("images a second", f"{run.images_per_second:,.0f}", *blank)
    for name in ("data", "compile", "train", "test"):
        table.add_row(name, f"{seconds[name]:.2f} s", *blank)
    console.print()
    console.print(table)
    note = "; a step of the loops as we measured it" if any(steps) else ""
    show_line(console, f"Beside ours: accuracies as published{note}.")


def show_evaluation(console: Console, evaluation: Evaluation) -> None:
    """Loss and accuracy, then the confusion matrix."""
    accuracy, error = evaluation.accuracy * 100, evaluation.standard_error * 100
    show_line(console, f"{evaluation.n_test:,} images")
    show_line(console, f"loss     {evaluation.loss:.4f}")
    show_line(console, f"accuracy {accuracy:.2f}% ± {error:.2f}% (standard error)")
    console.print()
    show_line(console, "true class (rows), answer (columns)", style="italic")
    table = Table(box=None, pad_edge=False)
    table.add_column("", style="bold")
    for answer in range(len(evaluation.confusion)):
        table.add_column(str(answer), justify="right")
    for label, counts in enumerate(evaluation.confusion.tolist()):
        cells = [_count(count, label == answer) for answer, count in enumerate(counts)]
        table.add_row(str(label), *cells)
    console.print(table)


def show_prediction(console: Console, name: str, image: NDArray[Any], probabilities: NDArray[Any]) -> None:
    """The image as the network sees it, the answer, and a bar for each class."""
    best = int(probabilities.argmax())
    show_line(console, f"{name}: {best} ({probabilities[best]:.1%})")
    for line in digits.half_blocks(image):
        show_line(console, f"  {line}")
    for label, probability in enumerate(probabilities.tolist()):
        bar = "█" * round(probability * BAR_WIDTH)
        show_line(console, f"  {label} {probability:6.1%} {bar}".rstrip(), style="bold" if label == best else "")


def show_comparison(console: Console, comparison: Comparison) -> None:
    """A row for each quantity of each layer, then the speed of each rung."""
    table = Table(box=None, pad_edge=False)
    for heading in ("layer", "quantity"):
        table.add_column(heading, no_wrap=True)
    for heading in ("differs by", "bound", ""):
        table.add_column(heading, justify="right")
    for row in comparison.layers:
        verdict = Text("ok", style="green") if row.ok else Text("EXCEEDED", style="bold red")
        table.add_row(row.name, row.quantity, f"{row.max_abs_diff:.1e}", f"{row.bound:.1e}", verdict)
    console.print(table)
    console.print()
    slowest = comparison.seconds_per_step["reference"]
    speeds = Table(box=None, pad_edge=False)
    speeds.add_column("backend")
    speeds.add_column("a step", justify="right")
    speeds.add_column("times the loops", justify="right")
    for backend, seconds in comparison.seconds_per_step.items():
        speeds.add_row(backend, _duration(seconds), f"{slowest / seconds:,.0f}")
    console.print(speeds)
    console.print()
    outside = sum(not row.ok for row in comparison.layers)
    steps = f"{comparison.samples} steps of training"
    if outside:
        show_line(
            console,
            f"{steps}: {outside} of {len(comparison.layers)} quantities exceed what rounding explains",
        )
    else:
        show_line(console, f"{steps}: every difference is explained by rounding")


def show_system(console: Console, info: SystemInfo) -> None:
    """One line for each figure, then the warnings."""
    blas = info.blas
    rows = {
        **info.versions,
        "processor": info.processor,
        "cores": str(info.cores),
        "vectors": f"{info.vector_bits} bits",
        "BLAS": f"{blas['name'] or 'unknown'} {blas['version'] or ''}".strip(),
        "BLAS kernels": blas["kernels"] or "unknown",
        "threading layer": info.threading_layer,
        "threads": str(info.threads),
        "cache folder": info.cache_folder or "none",
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        show_line(console, f"{name:{width}}  {value}")
    for warning in info.warnings:
        show_line(console, f"slow: {warning}", style="yellow")


def show_line(console: Console, text: str, style: str = "") -> None:
    """Print as it is: no markup, no colours for numbers, no wrapping."""
    console.print(Text(text, style=style), soft_wrap=True)


def _percent(share: float | None) -> str:
    """To a tenth of a percent; to a hundredth where fewer than 2% are wrong, of which a tenth is much."""
    if share is None:
        return ""
    return f"{share:.2%}" if share >= 0.98 else f"{share:.1%}"


def _count(count: int, right: bool) -> Text:
    style = "bold" if right else "" if count else "dim"
    return Text(str(count) if count else ".", style=style)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    unit, scale = ("s", 1.0) if seconds >= 1 else ("ms", 1e3) if seconds >= 1e-3 else ("µs", 1e6)
    return f"{seconds * scale:,.3g} {unit}"
