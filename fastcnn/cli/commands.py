"""The command line: reads arguments, calls what computes, prints what it returns.

Whatever takes time to import is imported inside the commands, so that `fastcnn --help` answers at once.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

import fastcnn
from fastcnn.errors import ArgumentError, FastcnnError, ModelFileError

if TYPE_CHECKING:
    from rich.console import Console

    from fastcnn.models import Sequential

Command = TypeVar("Command", bound=Callable[..., None])

USAGE_ERROR = 2
DIFFERS = 1
INTERRUPTED = 130
OUTPUT_FAILED = 1

app = typer.Typer(
    help="Train convolutional networks on a CPU, at the speed the silicon allows.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """The console script `fastcnn`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character gets a question mark
    warnings.formatwarning = lambda message, *_, **__: f"fastcnn: warning: {message}\n"
    try:
        try:
            app(prog_name="fastcnn")
        finally:
            sys.stdout.flush()
    except OSError as error:  # the errors of files are FastcnnErrors: this is the output's, whose disk may be full
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the last flush would complain once more
        _complain(f"cannot write the output: {error.strerror or error}")
        sys.exit(OUTPUT_FAILED)


class _WithRecipes(TyperCommand):
    """A command whose help ends with the list of recipes; only then are they imported."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        from fastcnn import recipes

        with formatter.section("Recipes"):
            formatter.write_dl([(recipe.name, recipe.description) for recipe in recipes.RECIPES.values()])


def command(function: Command, cls: type[TyperCommand] | None = None) -> Command:
    """Make a function a command whose errors are one line and whose exit status says what happened."""

    @functools.wraps(function)
    def guarded(*arguments: Any, **options: Any) -> None:
        try:
            function(*arguments, **options)
        except FastcnnError as error:
            _complain(str(error))
            raise typer.Exit(USAGE_ERROR) from None
        except KeyboardInterrupt:
            _complain("stopped by Ctrl-C")
            raise typer.Exit(INTERRUPTED) from None

    app.command(cls=cls)(guarded)
    return function


def _complain(message: str) -> None:
    """One line on stderr, whatever a file's name may hold."""
    line = "".join(character if character.isprintable() else " " for character in message)
    print(f"fastcnn: {line}", file=sys.stderr)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"fastcnn {fastcnn.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


DataOption = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Use this folder of four IDX files instead of MNIST.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="A file that `train --model` wrote.")]


@functools.partial(command, cls=_WithRecipes)
def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="One of those below.")] = "blog",
    epochs: Annotated[int | None, typer.Option(help="Passes over the images.  [default: the recipe's]")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step.  [default: the recipe's]")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="The highest, where it follows a schedule.  [default: the recipe's]")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", help="Keep the first N training and the first N test images.  [default: all]"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Chooses the first weights, the order of the images, and dropout.")] = 0,
    threads: Annotated[int | None, typer.Option(help="For backend numba.  [default: all cores]")] = None,
    backend: Annotated[str, typer.Option(help="numba, im2col or reference.")] = "numba",
    data: DataOption = None,
    model: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the trained model here (safetensors).")
    ] = None,
    history: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the figures here (JSON).")] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the training curves here (.png, .svg, .pdf); needs matplotlib."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Train a network, by default the tutorial's on all of MNIST."""
    from rich.console import Console

    from fastcnn import arguments, backends, callbacks, files, recipes, utils
    from fastcnn.cli import plots

    for name, value in (
        ("--epochs", epochs),
        ("--batch-size", batch_size),
        ("--limit", limit),
        ("--threads", threads),
    ):
        if value is not None:
            arguments.integer(name, value)
    if learning_rate is not None:
        arguments.real("--learning-rate", learning_rate, above=0.0)
    arguments.integer("--seed", seed, least=0)
    arguments.choice("--backend", backend, backends.BACKENDS)
    if threads is not None and backend != "numba":
        raise ArgumentError(f"--threads {threads}: only the numba backend has threads; leave it out for {backend}")
    chosen = recipes.get(recipe)
    if plot is not None:
        plots.check(plot)
    outputs = [(name, path) for name, path in (("--model", model), ("--history", history), ("--plot", plot)) if path]
    for name, path in outputs:
        files.check_writable(name, path)
    if len({path.resolve() for _, path in outputs}) < len(outputs):
        given = " and ".join(f"{name} {path}" for name, path in outputs)
        raise ArgumentError(f"{given}: expected a file for each of them")

    console = Console(quiet=quiet)
    if quiet:
        warnings.simplefilter("ignore")
    with ThreadPoolExecutor(1) as loader:  # one core unpacks the images, the other imports the compiler
        loading = loader.submit(_timed, functools.partial(_load, data))
        if threads is not None:
            utils.set_threads(threads)
        backends.get(backend)
        loaded, data_seconds = loading.result()
    with _compiling(console) if backend == "numba" else nullcontext():
        run = recipes.train(
            chosen,
            loaded,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            limit=limit,
            seed=seed,
            backend=backend,
            callbacks=[] if quiet else [callbacks.ProgressBar(console=console)],
        )
    record = run.as_dict()
    record["seconds"] = {"data": data_seconds, **run.seconds}
    if model is not None:
        run.model.save(model, include_optimizer=False)
    if history is not None:
        files.write("--history", history, (json.dumps(record, indent=2) + "\n").encode())
    if plot is not None:
        files.write("--plot", plot, plots.training_curves(run, plot.suffix.lower()[1:]))
    if not quiet:
        from fastcnn.cli import display

        display.show_run(console, run, record["seconds"])
        for _, path in outputs:
            display.show_line(console, f"wrote {path}")


@command
def evaluate(model: ModelArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Measure a model on test images: loss, accuracy, confusion matrix."""
    from fastcnn.models import evaluation

    network = _load_model(model)
    _, (images, labels) = _load(data)
    try:
        result = evaluation.evaluate(network, images, labels)
    except ArgumentError as error:
        raise ArgumentError(f"{model} does not fit the images of {data or 'MNIST'}: {error}") from None
    if as_json:
        _print_json(result.to_json())
        return
    from rich.console import Console

    from fastcnn.cli import display

    display.show_evaluation(Console(), result)


@command
def predict(
    model: ModelArgument,
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE", help="PNG or JPEG files, dark on light or light on dark."),
    ],
) -> None:
    """Read the digit in each image."""
    from rich.console import Console

    from fastcnn.cli import digits, display

    network = _load_model(model)
    shape = tuple(size or 0 for size in network.input_shape[1:])
    console, failed = Console(), False
    for path in images:
        try:
            digit = digits.read_digit(path, shape)
            probabilities = network.predict(digit[None, :, :, None], verbose=0)[0]
            display.show_prediction(console, str(path), digit, probabilities)
        except FastcnnError as error:  # noqa: PERF203 - the other images can still be read
            _complain(str(error))
            failed = True
    if failed:
        raise typer.Exit(USAGE_ERROR)


@command
def compare(
    samples: Annotated[int, typer.Option(metavar="N", help="Steps of training, one image each.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Hold the fast path against the plain loops, number by number.

    Trains by both from the same start and compares all that they compute with the bound that rounding has. The exit
    status is 1 where anything exceeds its bound.
    """
    from rich.console import Console
    from rich.progress import Progress

    from fastcnn import arguments, compare
    from fastcnn.cli import display
    from fastcnn.datasets import mnist

    arguments.integer("--samples", samples)
    images, labels = mnist.train_images(), mnist.train_labels()
    terminal = Console(stderr=True)
    with Progress(console=terminal, transient=True, disable=not terminal.is_terminal) as progress:
        task = progress.add_task("comparing", total=samples)
        result = compare.compare(
            images, labels, samples, on_step=lambda done, total: progress.update(task, completed=done)
        )
    if as_json:
        _print_json(result.to_json())
    else:
        display.show_comparison(Console(), result)
    if not result.ok:
        raise typer.Exit(DIFFERS)


@command
def info(as_json: JsonOption = False) -> None:
    """Show what this machine gives to fastcnn, and what of it is slow."""
    from fastcnn.cli import system

    result = system.collect()
    if as_json:
        _print_json(result.to_json())
        return
    from rich.console import Console

    from fastcnn.cli import display

    display.show_system(Console(), result)


@command
def warmup() -> None:
    """Compile everything into the cache, so that no later run has to."""
    from fastcnn.backends.numba import jit
    from fastcnn.cli import warmup

    begun = time.perf_counter()
    compiled = warmup.warm_up(lambda name: print(f"compiling {name}", flush=True))
    kernels = f"{len(compiled.kernels)} kernels compiled" if compiled.kernels else "nothing to compile"
    folder = jit.cache_folder()
    kept = "they can't be kept on this machine" if folder is None else f"kept in {folder}"
    print(f"{kernels} in {time.perf_counter() - begun:.1f} s; {kept}")


def _load(folder: Path | None) -> Any:
    """MNIST, or somebody's own four files: ((images, labels), (test images, test labels))."""
    from fastcnn import datasets

    return datasets.mnist.load_data() if folder is None else datasets.load_idx_folder(folder)


def _load_model(path: Path) -> Sequential:
    """A model from its file, with softmax on top where its loss had it; warn where it doesn't scale the pixels itself.

    Raises:
        ModelFileError: it can't be read, or gives no probabilities.
    """
    from fastcnn.layers import Rescaling, Softmax
    from fastcnn.models import load_model
    from fastcnn.stages import ends_in_softmax

    model = load_model(path)
    if model.loss is not None and model.loss.from_logits:
        model.add(Softmax())
    if not ends_in_softmax(model.layers):
        raise ModelFileError(f"{path}: does not end in softmax; expected a network that gives each class a probability")
    if not any(isinstance(layer, Rescaling) for layer in model.layers):
        warnings.warn(f"{path} has no Rescaling layer, so that its network gets pixels from 0 to 255", stacklevel=2)
    return model


def _timed(function: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.perf_counter()
    return function(), time.perf_counter() - begun


def _compiling(console: Console) -> AbstractContextManager[None]:
    """Say which kernel is being compiled: that is what the first run waits for."""
    from fastcnn.backends.numba import jit

    kept = "" if jit.cache_folder() is None else " (kept for the next run)"
    return jit.on_compile(lambda name: console.print(f"compiling {name}{kept}", highlight=False))


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=2))
