"""Checks of what callers pass in: each returns the value in one form, or raises a one-line ArgumentError."""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fastcnn import absent
from fastcnn.errors import ArgumentError


def listing(names: Iterable[object]) -> str:
    """The names as ``'a', 'b', 'c'``, for messages that say what exists."""
    return ", ".join(repr(name) for name in names)


def integer(name: str, value: Any, *, least: int = 1) -> int:
    """`value` as an int of at least `least`; numpy's integers count, bools and floats don't."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least:
        raise ArgumentError(f"{name}={value!r}: expected a whole number of at least {least}")
    return number


def real(name: str, value: Any, *, above: float | None = None, least: float | None = None) -> float:
    """`value` as a finite float, greater than `above` and at least `least` where those are given."""
    try:
        number = math.nan if isinstance(value, (bool, str)) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    bound = "" if least is None else f" of at least {least:g}"
    bound = bound if above is None else f" above {above:g}"
    if not math.isfinite(number) or (above is not None and number <= above) or (least is not None and number < least):
        raise ArgumentError(f"{name}={value!r}: expected a finite number{bound}")
    return number


def flag(name: str, value: Any) -> bool:
    """`value` as a bool; 0 and 1 count."""
    if value not in (0, 1):
        raise ArgumentError(f"{name}={value!r}: expected True or False")
    return bool(value)


def pair(name: str, value: Any) -> tuple[int, int]:
    """A height and a width: a whole number stands for both."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ArgumentError(f"{name}={value!r}: expected one whole number or two (height, width)")
        return integer(name, value[0]), integer(name, value[1])
    number = integer(name, value)
    return number, number


def choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """`value` where it is one of `choices`."""
    choices = tuple(choices)
    if not isinstance(value, str) or value not in choices:
        raise ArgumentError(f"{name}={value!r} is not available; choose from {listing(choices)}")
    return value


def shape(name: str, value: Any, *, open_sizes: bool = False) -> tuple[int, ...]:
    """The shape of one sample, without the batch: a tuple of whole numbers, or one; -1 where `open_sizes` lets it."""
    values = value if isinstance(value, (tuple, list)) else (value,)
    if not values:
        raise ArgumentError(f"{name}={value!r}: expected the shape of one sample, such as (28, 28, 1)")
    try:
        return tuple(-1 if open_sizes and size == -1 else integer(name, size) for size in values)
    except ArgumentError:
        raise ArgumentError(f"{name}={value!r}: expected whole numbers of at least 1") from None


def refuse(
    owner: str, unknown: Mapping[str, Any], function: Callable[..., Any], neutral: Mapping[str, tuple[Any, ...] | None]
) -> None:
    """Raise for every name in `unknown` but those that hold Keras' default, which change nothing.

    Args:
        owner: whose arguments they are, for the message: ``"Conv2D"``.
        unknown: the keyword arguments that `function` has no name for.
        function: the function that was called; the message lists its arguments.
        neutral: Keras' arguments that we don't have, with the values that ask for nothing; None is all values.

    Raises:
        ArgumentError: names the first such argument and lists those that exist.
    """
    for name, value in unknown.items():
        accepted = neutral.get(name, ())
        if accepted is None or any(value == nothing for nothing in accepted):
            continue
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        known = [p.name for p in inspect.signature(function).parameters.values() if p.kind in kinds]
        names = ", ".join(name for name in known if name != "self")
        state = "is not available yet" if name in neutral else "is not an argument"
        instead = absent.ARGUMENTS.get(name, f"there are: {names}")
        raise ArgumentError(f"{owner}: {name}={value!r} {state}; {instead}")


def not_yet(owner: str, name: str, value: Any, available: str) -> ArgumentError:
    """The error for a value that Keras takes and we don't."""
    return ArgumentError(f"{owner}: {name}={value!r} is not available yet; there is: {available}")


def does_not_fit(owner: str, what: str, image: str) -> ArgumentError:
    """The error for a kernel or window larger than its image."""
    return ArgumentError(f"{owner}: {what} does not fit into {image} images; use a smaller one")
