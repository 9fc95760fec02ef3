"""From an image file to an array like those a network was trained on: `fastcnn predict` reads people's files
with it.

MNIST's own preparation, as its authors describe it (Y. LeCun, C. Cortes, C. Burges, "The MNIST database of
handwritten digits"): the digit is scaled, with anti-aliasing and its aspect ratio kept, to fit a box of 20 x
20 pixels, and the box is placed in a field of 28 x 28 so that its centre of mass lies at the centre of the
field. White ink on black ground.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastcnn.errors import ArgumentError, DataError

if TYPE_CHECKING:
    from PIL import Image

#: The part of the field that the digit's box takes: 20 of 28 pixels.
BOX_SHARE = 20 / 28
#: Larger images are refused before they are decoded.
MAX_PIXELS = 50_000_000
#: The formats that are tried; the others that Pillow knows would start programs or read several files.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
#: Ink must differ from its ground by this share of the range from black to white.
MIN_CONTRAST = 0.08
#: Ink fainter than this share of the darkest ink is paper grain or a compression artefact.
MIN_INK = 0.05

Floats = npt.NDArray[np.float64]


def read_digit(path: str | Path, input_shape: tuple[int, ...] = (28, 28, 1)) -> npt.NDArray[np.uint8]:
    """Read an image and prepare it as MNIST's were.

    Dark ink on a light ground and light ink on a dark ground both work: what most of the border shows is the
    ground.

    Args:
        path: a PNG, JPEG, BMP, GIF, TIFF, WebP or PPM file of any size up to 50 million pixels, in any mode.
        input_shape: a network's input, (height, width, 1) in pixels; 28 x 28 is MNIST's.

    Returns:
        uint8 (height, width): 0 is the ground, 255 the strongest ink.

    Raises:
        ArgumentError: the network doesn't take images of one channel.
        DataError: the file can't be read, is no image, is too large, or shows nothing.
    """
    if len(input_shape) != 3 or input_shape[2] != 1:
        raise ArgumentError(
            f"the model takes input of shape {input_shape}; image files need one for (height, width, 1)"
        )
    return place(_ink(_levels(path), path), input_shape[0], input_shape[1])


def place(ink: Floats, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Scale the inked part of an image into the box, and the box into a field of height x width by its centre
    of mass.

    Args:
        ink: (h, w), from 0 (none) to 1; at least one element is above 0.
        height: rows of the result.
        width: columns of the result.
    """
    from PIL import Image

    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

    scale = max(1.0, BOX_SHARE * min(height, width)) / max(ink.shape)
    h, w = (min(max(1, round(side * scale)), field) for side, field in zip(ink.shape, (height, width), strict=True))
    if (h, w) != ink.shape:
        resized = Image.fromarray(ink.astype(np.float32)).resize((w, h), Image.Resampling.BICUBIC)
        ink = np.clip(np.asarray(resized, dtype=np.float64), 0.0, None)
    ink = ink / ink.max()

    top = _offset(ink.sum(axis=1), height)
    left = _offset(ink.sum(axis=0), width)
    field = np.zeros((height, width), dtype=np.uint8)
    field[top : top + h, left : left + w] = np.rint(ink * 255)
    return field


def half_blocks(image: npt.NDArray[np.uint8]) -> list[str]:
    """Draw an image (height, width) as lines of text; a character shows two pixels, one above the other."""
    on = image >= 96
    if len(on) % 2:
        on = np.vstack([on, np.zeros((1, on.shape[1]), dtype=bool)])
    pairs = on[0::2] * 1 + on[1::2] * 2
    return ["".join(" ▀▄█"[pair] for pair in row) for row in pairs]


def _offset(mass: Floats, field: int) -> int:
    """Where a strip of masses begins in a field, for its centre of mass to lie at pixel field / 2, as in
    MNIST."""
    centre = float((mass * np.arange(mass.size)).sum() / mass.sum())
    return int(min(max(round(field / 2 - centre), 0), field - mass.size))


def _ink(levels: Floats, path: str | Path) -> Floats:
    """Turn levels (0 black, 1 white) into ink (0 ground, 1 the strongest), whichever of the two is dark."""
    border = np.concatenate([levels[0], levels[-1], levels[:, 0], levels[:, -1]])
    ground = float(np.median(border))
    ink = ground - levels if ground - levels.min() > levels.max() - ground else levels - ground
    strongest = float(ink.max())
    if not strongest >= MIN_CONTRAST:
        raise DataError(f"{path}: the image shows nothing; expected a digit that stands out from its ground")
    grain = 8.0 * float(np.median(np.abs(border - ground)))  # more than five standard deviations
    return np.where(ink > max(grain, MIN_INK * strongest), ink / strongest, 0.0)


def _levels(path: str | Path) -> Floats:
    """Read an image as levels of grey, 0 for black to 1 for white."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's warning of large images: the limit below is stricter
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise DataError(f"{path}: {width} x {height} pixels is too large; expected at most {MAX_PIXELS:,}")
                return _grey(ImageOps.exif_transpose(image))
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image; expected a PNG (or {', '.join(FORMATS[1:])})") from None
    except Exception as problem:  # what a damaged file makes a decoder raise is anyone's guess
        reason = (problem.strerror if isinstance(problem, OSError) else None) or str(problem).splitlines()[0]
        raise DataError(f"{path}: the image can't be read ({reason})") from None


def _grey(image: Image.Image) -> Floats:
    if image.mode.startswith("I;16"):
        return np.asarray(image, dtype=np.float64) / 65535.0
    if image.mode in ("I", "F"):  # 32 bits a pixel: the file doesn't say which value is white
        values = np.asarray(image, dtype=np.float64)
        highest = float(values.max())
        return values / next((white for white in (1.0, 255.0, 65535.0) if highest <= white), highest)
    if "A" not in image.getbands() and "transparency" not in image.info:
        return _unit(image.convert("L"))
    rgba = image.convert("RGBA")
    alpha, grey = _unit(rgba.getchannel("A")), _unit(rgba.convert("L"))
    # What is transparent becomes the ground: the opposite of what can be seen.
    seen = float((grey * alpha).sum() / alpha.sum()) if alpha.any() else 0.0
    ground = 1.0 if seen < 0.5 else 0.0
    return grey * alpha + ground * (1.0 - alpha)


def _unit(image: Any) -> Floats:
    return np.asarray(image, dtype=np.float64) / 255.0
