"""What is timed, under names that ours and all peers share: networks trained and asked, convolutions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from benchmarks.peers.networks import NETWORKS
from benchmarks.peers.shapes import DEEPBENCH, OURS, ConvShape

TRAIN_IMAGES, TEST_IMAGES = 60_000, 10_000

#: The tutorial's network on one image, a multiply-add counted as two. Training adds to the forward pass the gradients
#: of dense weights, dense inputs and filters, each as many as its forward pass and all counted as if dense: a kernel
#: that skips what is zero comes out above what it executes.
CONVOLUTION, DENSE = 2 * 26 * 26 * 9 * 8, 2 * 13 * 13 * 8 * 10
FORWARD_FLOP = CONVOLUTION + DENSE
STEP_FLOP = 2 * CONVOLUTION + 3 * DENSE

Unit = Literal["us", "s", "images/s", "GFLOP/s"]


@dataclass(frozen=True)
class Workload:
    """One kind of work.

    Attributes:
        name: for the command line and the results.
        title: for people.
        kind: "train", "predict"; "reach": train whole epochs until the test accuracy is `target`; "start": a process
            from its start to the end of its first step of training; "conv-forward", "conv-input", "conv-filter": a
            convolution, its gradient for the images, its gradient for the filters.
        batch_size: images a step of training. In inference: 1 asks one image a call, 0 leaves it to the library.
        threads: cores that each side may use.
        samples: images in a full run. A run that would take long visits fewer: its time is proportional to them.
        unit, per: what one figure is: `per` images take so many `unit`; unit "us", "s", "images/s" or "GFLOP/s".
        network: "tutorial" (by plain SGD), or one of `networks.NETWORKS`.
        shape: a convolution's descriptor.
        flop: floating-point operations of one image.
        dropout: False leaves it out of the network, so that chance does not enter.
        target: of "reach".
        epochs: that the learning rate's cycle takes; of "reach" the last one, too.
        cached: of "start": whether what an earlier process compiled and kept on disk is there.
    """

    name: str
    title: str
    kind: Literal["train", "predict", "reach", "start", "conv-forward", "conv-input", "conv-filter"]
    batch_size: int
    threads: int
    samples: int
    unit: Unit
    per: int = 1
    network: str = "tutorial"
    shape: str = ""
    flop: int = 0
    dropout: bool = True
    target: float = 0.0
    epochs: int = 1
    cached: bool = False

    @property
    def trains(self) -> bool:
        return self.kind in ("train", "reach", "start")

    @property
    def training(self) -> str:
        """What is run for it: workloads of "reach" that differ in their target only are one training."""
        return f"{self.network}, {self.epochs} epochs" if self.kind == "reach" else self.name

    @property
    def convolves(self) -> bool:
        return bool(self.shape)

    @property
    def rising(self) -> bool:
        """Whether more is better."""
        return self.unit in ("images/s", "GFLOP/s")

    def figure(self, seconds_per_sample: float) -> float:
        """A time in the workload's unit."""
        if self.unit == "images/s":
            return 1 / seconds_per_sample
        if self.unit == "GFLOP/s":
            return self.flop / seconds_per_sample / 1e9
        return seconds_per_sample * self.per * (1e6 if self.unit == "us" else 1.0)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _training(name: str, title: str, batch_size: int, threads: int = 2, **more: Any) -> Workload:
    """An epoch."""
    return Workload(name, title, "train", batch_size, threads, TRAIN_IMAGES, "s", TRAIN_IMAGES, **more)


def _inference(prefix: str, about: str, **more: Any) -> list[Workload]:
    """On all test images, and one at a time."""
    many = Workload(
        f"{prefix}predict-10000", f"{about}inference on 10,000 images", "predict", 0, 2, TEST_IMAGES, "images/s", **more
    )
    one = Workload(
        f"{prefix}predict-1", f"{about}inference, one image a call", "predict", 1, 1, TEST_IMAGES, "us", **more
    )
    return [many, one]


def _tutorial() -> list[Workload]:
    return [
        Workload("train-b1", "a step, batch size 1", "train", 1, 1, TRAIN_IMAGES, "us", flop=STEP_FLOP),
        *(_training(f"train-b{size}", f"an epoch, batch size {size}", size, flop=STEP_FLOP) for size in (32, 128, 256)),
        *_inference("", "", flop=FORWARD_FLOP),
    ]


def _deep(name: str) -> list[Workload]:
    network = NETWORKS[name]
    size, title = network.batch_size, f"{name}: an epoch, batch size {network.batch_size}"
    more: dict[str, Any] = {"network": name, "flop": network.flop(training=True), "epochs": network.epochs}
    return [
        _training(f"{name}-train", title, size, **more),
        *_inference(f"{name}-", f"{name}: ", network=name, flop=network.flop(training=False)),
    ]


def _reach(name: str, target: float, epochs: int) -> Workload:
    network = NETWORKS[name]
    return Workload(
        name=f"{name}-to-{target * 100:.2f}-in-{epochs}",
        title=f"{name} to {target:.2%} on the test images, {epochs} epoch{'s'[: epochs - 1]} at most",
        kind="reach",
        batch_size=network.batch_size,
        threads=2,
        samples=TRAIN_IMAGES,
        unit="s",
        per=TRAIN_IMAGES,
        network=name,
        flop=network.flop(training=True),
        target=target,
        epochs=epochs,
    )


def _start(name: str, title: str, cached: bool) -> Workload:
    return Workload(name, title, "start", 128, 2, 128, "s", 128, flop=STEP_FLOP, cached=cached)


_DIRECTIONS: dict[str, Literal["conv-forward", "conv-input", "conv-filter"]] = {
    "forward": "conv-forward",
    "input gradient": "conv-input",
    "filter gradient": "conv-filter",
}


def _convolutions(descriptor: str) -> list[Workload]:
    shape = ConvShape.parse(descriptor)
    return [
        Workload(
            name=f"{kind}-{descriptor}",
            title=f"{descriptor}, {title}",
            kind=kind,
            batch_size=shape.mb,
            threads=2,
            samples=shape.mb,
            unit="GFLOP/s",
            shape=descriptor,
            flop=shape.flop,
        )
        for title, kind in _DIRECTIONS.items()
        if kind != "conv-input" or shape.ic > 1  # a network's first convolution needs none
    ]


WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        *_tutorial(),
        *_deep("keras-convnet"),
        *_deep("small-convnet"),
        _start("start-first", "from starting Python to the end of the first step, nothing compiled before", False),
        _start("start-again", "the same in a second process", True),
        *(workload for descriptor in (*OURS, *DEEPBENCH) for workload in _convolutions(descriptor)),
        _reach("small-convnet", 0.99, 1),
        _reach("small-convnet", 0.99, 2),
        _reach("small-convnet", 0.9925, 4),
        _reach("keras-convnet", 0.99, 12),
        _reach("keras-convnet", 0.9925, 12),
    )
}


def _named(belongs: Callable[[Workload], bool]) -> tuple[str, ...]:
    return tuple(name for name, workload in WORKLOADS.items() if belongs(workload))


#: Names on the command line that stand for several workloads.
GROUPS: dict[str, tuple[str, ...]] = {
    "tutorial": _named(lambda one: one.network == "tutorial" and one.kind in ("train", "predict")),
    "deep": _named(lambda one: one.network in NETWORKS and one.kind in ("train", "predict")),
    "start": _named(lambda one: one.kind == "start"),
    "convolutions": _named(lambda one: one.convolves),
    "reach": _named(lambda one: one.kind == "reach"),
}


def workloads_of(names: Iterable[str]) -> list[Workload]:
    """The workloads of those names, or those of groups of those names, each once and in the report's order.

    Raises:
        ValueError: there is none of that name.
    """
    chosen: set[str] = set()
    for name in names:
        if name not in WORKLOADS and name not in GROUPS:
            raise ValueError(
                f"workload {name!r} is unknown; expected a group ({', '.join(GROUPS)}) or one of its names"
            )
        chosen.update(GROUPS.get(name, (name,)))
    return [workload for name, workload in WORKLOADS.items() if name in chosen]
