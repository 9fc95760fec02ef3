"""Training curves as an image file. Needs matplotlib: the extra `plot`."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import TYPE_CHECKING

from fastcnn.errors import ArgumentError

if TYPE_CHECKING:
    from fastcnn.recipes import RunResult

FORMATS = ("png", "svg", "pdf")


def check(path: Path) -> None:
    """Make sure that a plot can be drawn and that `path` names a format for it.

    Raises:
        ArgumentError: matplotlib isn't installed, or the file's ending is none of .png, .svg, .pdf.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ArgumentError("--plot needs matplotlib, which is not installed; run `pip install fastcnn[plot]`")
    if path.suffix.lower()[1:] not in FORMATS:
        raise ArgumentError(f"--plot {path}: expected a name that ends in one of .{', .'.join(FORMATS)}")


def training_curves(run: RunResult, file_format: str) -> bytes:
    """Draw loss and accuracy over the epochs, for the training and the test images.

    Args:
        run: at least one epoch.
        file_format: "png", "svg" or "pdf".

    Returns:
        The content of the image file.
    """
    from matplotlib.figure import Figure

    epochs = run.epochs()
    numbers = [epoch["epoch"] for epoch in epochs]
    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        axes.plot(numbers, [epoch[name] for epoch in epochs], "o-", label="training")
        axes.plot(numbers, [epoch[f"val_{name}"] for epoch in epochs], "o-", label="test")
        axes.set(
            xlabel="epoch",
            ylabel=name,
            xticks=numbers if len(numbers) <= 12 else numbers[:: len(numbers) // 8],
        )
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(f"{run.recipe.name}: {run.n_train:,} images, batch size {run.batch_size}")
    content = io.BytesIO()
    figure.savefig(content, format=file_format)
    return content.getvalue()
