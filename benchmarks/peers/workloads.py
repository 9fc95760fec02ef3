"""What is timed: the tutorial's network, trained and asked, under names that ours and all peers share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

TRAIN_IMAGES, TEST_IMAGES = 60_000, 10_000


@dataclass(frozen=True)
class Workload:
    """One kind of work.

    Attributes:
        name: for the command line and the results.
        title: for people.
        kind: training by plain SGD, or inference.
        batch_size: images a step of training. In inference: 1 asks one image a call, 0 leaves it to the library.
        threads: cores that each side may use.
        samples: images in a full run. A run that would take long visits fewer: its time is proportional to them.
        unit, per: what one figure is: `per` images take so many `unit`; unit "us", "s" or "images/s".
    """

    name: str
    title: str
    kind: Literal["train", "predict"]
    batch_size: int
    threads: int
    samples: int
    unit: Literal["us", "s", "images/s"]
    per: int = 1

    def figure(self, seconds_per_sample: float) -> float:
        """A time in the workload's unit."""
        if self.unit == "images/s":
            return 1 / seconds_per_sample
        return seconds_per_sample * self.per * (1e6 if self.unit == "us" else 1.0)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        Workload("train-b1", "a step of training, batch size 1", "train", 1, 1, TRAIN_IMAGES, "us"),
        Workload("train-b128", "an epoch, batch size 128", "train", 128, 2, TRAIN_IMAGES, "s", TRAIN_IMAGES),
        Workload("predict-10000", "inference on 10,000 images", "predict", 0, 2, TEST_IMAGES, "images/s"),
        Workload("predict-1", "inference, one image a call", "predict", 1, 1, TEST_IMAGES, "us"),
    )
}
