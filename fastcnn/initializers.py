"""What weights start from, under Keras' names. They draw in float64 from the generator they are given."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcnn import absent, arguments
from fastcnn.errors import ArgumentError


class Initializer:
    """The base of all initializers. Subclasses say how to draw an array of a given shape."""

    seed: int | None = None

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw an array of `shape`, from `rng` unless the initializer was given a seed of its own."""
        return self.draw(shape, rng if self.seed is None else np.random.default_rng(self.seed))

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, fit for JSON."""
        return dict(vars(self))


class Zeros(Initializer):
    """All zeros."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
        return np.zeros(shape)


class Ones(Initializer):
    """All ones."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
        return np.ones(shape)


class Constant(Initializer):
    """One value everywhere."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = arguments.real("Constant: value", value)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
        return np.full(shape, self.value)


class _Random(Initializer):
    def __init__(self, seed: int | None = None) -> None:
        self.seed = None if seed is None else arguments.integer(f"{type(self).__name__}: seed", seed, least=0)


class RandomNormal(_Random):
    """A normal distribution."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.mean = arguments.real("RandomNormal: mean", mean)
        self.stddev = arguments.real("RandomNormal: stddev", stddev, least=0.0)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
        return rng.normal(self.mean, self.stddev, shape)


class TruncatedNormal(_Random):
    """A normal distribution of which what is more than two deviations from the mean is drawn again."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.mean = arguments.real("TruncatedNormal: mean", mean)
        self.stddev = arguments.real("TruncatedNormal: stddev", stddev, least=0.0)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
        return self.mean + _truncated_normal(self.stddev, shape, rng)


class RandomUniform(_Random):
    """A uniform distribution from `minval` to `maxval`."""

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.minval = arguments.real("RandomUniform: minval", minval)
        self.maxval = arguments.real("RandomUniform: maxval", maxval, least=self.minval)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
        return rng.uniform(self.minval, self.maxval, shape)


class GlorotUniform(_Random):
    """Uniform within sqrt(6 / (fan_in + fan_out)): Glorot and Bengio, 2010, equation 16. Keras' default."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
        fan_in, fan_out = fans(shape)
        limit = math.sqrt(6.0 / (fan_in + fan_out))
        return rng.uniform(-limit, limit, shape)


class GlorotNormal(_Random):
    """A truncated normal distribution of variance 2 / (fan_in + fan_out): Glorot and Bengio, 2010."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
        return _truncated_normal(math.sqrt(2.0 / sum(fans(shape))) / _TRUNCATED_DEVIATION, shape, rng)


class HeUniform(_Random):
    """Uniform within sqrt(6 / fan_in): He, Zhang, Ren and Sun, 2015, section 2.2."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
        limit = math.sqrt(6.0 / fans(shape)[0])
        return rng.uniform(-limit, limit, shape)


class HeNormal(_Random):
    """A truncated normal distribution of variance 2 / fan_in: He, Zhang, Ren and Sun, 2015, section 2.2."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
        return _truncated_normal(math.sqrt(2.0 / fans(shape)[0]) / _TRUNCATED_DEVIATION, shape, rng)


class LecunUniform(_Random):
    """Uniform within sqrt(3 / fan_in): LeCun, Bottou, Orr and Müller, "Efficient BackProp", 1998, section 4.6."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
        limit = math.sqrt(3.0 / fans(shape)[0])
        return rng.uniform(-limit, limit, shape)


class LecunNormal(_Random):
    """A truncated normal distribution of variance 1 / fan_in: LeCun and others, 1998, section 4.6."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
        return _truncated_normal(math.sqrt(1.0 / fans(shape)[0]) / _TRUNCATED_DEVIATION, shape, rng)


#: The standard deviation of a standard normal variable cut at two on both sides: sqrt(1 - 4 phi(2) / (2 Phi(2) - 1)).
_TRUNCATED_DEVIATION = 0.8796256610342398


def _truncated_normal(stddev: float, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw from a normal distribution; what is more than two deviations off is drawn again."""
    values = rng.standard_normal(shape)
    while (far := np.abs(values) > 2).any():
        values[far] = rng.standard_normal(np.count_nonzero(far))
    return stddev * values


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many inputs an output sums over, how many outputs an input reaches, for weights (..., in, out)."""
    if len(shape) < 2:
        return math.prod(shape), math.prod(shape)
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


INITIALIZERS: dict[str, type[Initializer]] = {
    "zeros": Zeros,
    "ones": Ones,
    "constant": Constant,
    "random_normal": RandomNormal,
    "random_uniform": RandomUniform,
    "truncated_normal": TruncatedNormal,
    "glorot_uniform": GlorotUniform,
    "glorot_normal": GlorotNormal,
    "he_uniform": HeUniform,
    "he_normal": HeNormal,
    "lecun_uniform": LecunUniform,
    "lecun_normal": LecunNormal,
}
_CLASSES = {cls.__name__: cls for cls in INITIALIZERS.values()}


def get(initializer: str | Initializer | dict[str, Any], name: str = "initializer") -> Initializer:
    """The initializer called so (``"zeros"`` or ``"Zeros"``), described so (`serialize`), or itself.

    Args:
        initializer: which.
        name: whose it is, for the message: ``"Dense: kernel_initializer"``.

    Raises:
        ArgumentError: there is none of that name.
    """
    if isinstance(initializer, Initializer):
        return initializer
    if isinstance(initializer, type) and issubclass(initializer, Initializer):
        return initializer()
    if isinstance(initializer, dict) and initializer.get("class") in _CLASSES:
        return _CLASSES[initializer["class"]](**initializer.get("config", {}))
    if isinstance(initializer, str):
        cls = INITIALIZERS.get(initializer) or _CLASSES.get(initializer)
        if cls is not None:
            return cls()
    raise ArgumentError(f"{name}={initializer!r} is unknown; there are: {arguments.listing(INITIALIZERS)}")


def serialize(initializer: Initializer) -> dict[str, Any]:
    """A description of `initializer` fit for JSON, which `get` reads."""
    return {"class": type(initializer).__name__, "config": initializer.get_config()}


__getattr__ = absent.getter(__name__)
