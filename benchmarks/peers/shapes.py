"""Shapes of convolutions, by the descriptors that oneDNN's benchdnn uses: `mb128ic32ih26oc64oh24kh3`.

Square images and kernels: mb images of ic channels and ih x ih pixels, oc filters of kh x kh, strides sh (1 if not
named), ph zeros on each side (0 if not named), oh x oh pixels of output. benchdnn fills in the widths by itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_FIELDS = ("mb", "ic", "ih", "oc", "oh", "kh", "sh", "ph")
_DEFAULTS = {"sh": 1, "ph": 0}


@dataclass(frozen=True)
class ConvShape:
    """One convolution.

    Attributes:
        mb, ic, ih, oc, oh, kh, sh, ph: as in the descriptor.

    Raises:
        ValueError: the output's size is not what the others give.
    """

    mb: int
    ic: int
    ih: int
    oc: int
    oh: int
    kh: int
    sh: int = 1
    ph: int = 0

    def __post_init__(self) -> None:
        size = (self.ih + 2 * self.ph - self.kh) // self.sh + 1
        if self.oh != size:
            raise ValueError(f"{self.descriptor}: oh{self.oh}; expected oh{size}")

    @classmethod
    def parse(cls, descriptor: str) -> ConvShape:
        """The shape that a descriptor names.

        Raises:
            ValueError: it is not of the form above.
        """
        fields = {name: int(number) for name, number in re.findall(r"([a-z]+)(\d+)", descriptor)}
        whole = re.fullmatch(r"([a-z]+\d+)+", descriptor)
        if not whole or not set(_FIELDS) - set(_DEFAULTS) <= set(fields) <= set(_FIELDS):
            raise ValueError(f"{descriptor!r} is no shape; expected one like mb128ic32ih26oc64oh24kh3sh1ph0")
        return cls(**fields)

    @property
    def descriptor(self) -> str:
        values = {name: getattr(self, name) for name in _FIELDS}
        return "".join(f"{name}{value}" for name, value in values.items() if value != _DEFAULTS.get(name))

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        return self.mb, self.ih, self.ih, self.ic

    @property
    def filter_shape(self) -> tuple[int, int, int, int]:
        return self.kh, self.kh, self.ic, self.oc

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        return self.mb, self.oh, self.oh, self.oc

    @property
    def strides(self) -> tuple[int, int]:
        return self.sh, self.sh

    @property
    def padding(self) -> tuple[tuple[int, int], tuple[int, int]]:
        return (self.ph, self.ph), (self.ph, self.ph)

    @property
    def flop(self) -> int:
        """Of an image, in each of the three directions: a multiply-add counts as two, zeros of the padding too."""
        return 2 * self.oh**2 * self.oc * self.kh**2 * self.ic

    @property
    def bytes(self) -> float:
        """That must travel between memory and processor at least, for an image: everything once, in float32."""
        return 4 * (self.ih**2 * self.ic + self.oh**2 * self.oc + self.kh**2 * self.ic * self.oc / self.mb)


#: Convolutions of the networks in the report and of others for images of this size.
OURS = (
    "mb128ic32ih26oc64oh24kh3",
    "mb128ic64ih14oc64oh14kh3ph1",
    "mb128ic24ih12oc32oh10kh3",
    "mb128ic3ih28oc32oh28kh3ph1",
    "mb128ic128ih8oc128oh8kh3ph1",
    "mb128ic1ih28oc32oh26kh3",
)

#: From the training set of Baidu's DeepBench (`code/kernels/conv_problems.h`), which benchdnn has a list of as well:
#: those with square images that two cores do in some milliseconds.
DEEPBENCH = (
    "mb8ic3ih108oc64oh54kh3sh2ph1",
    "mb8ic64ih54oc64oh54kh3ph1",
    "mb8ic128ih27oc128oh27kh3ph1",
    "mb8ic128ih14oc256oh14kh3ph1",
    "mb8ic256ih7oc512oh7kh3ph1",
    "mb8ic256ih14oc1024oh14kh1",
)
