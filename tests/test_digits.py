"""Image files become what the network was trained on, whatever their size, mode and polarity."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fastcnn.cli import digits
from fastcnn.cli.digits import half_blocks, place, read_digit
from fastcnn.datasets import mnist
from fastcnn.errors import ArgumentError, DataError

SEVEN = [(0.25, 0.2), (0.75, 0.2), (0.45, 0.8)]


def seven(width: int = 200, height: int = 200, ink: int = 0, ground: int = 255) -> Image.Image:
    image = Image.new("L", (width, height), ground)
    points = [(x * width, y * height) for x, y in SEVEN]
    ImageDraw.Draw(image).line(points, fill=ink, width=max(1, round(width / 14)), joint="curve")
    return image


def saved(image: Image.Image, folder: Path, name: str = "digit.png") -> Path:
    image.save(folder / name)
    return folder / name


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


def test_placing_an_image_of_mnist_changes_nothing() -> None:
    for image in mnist.test_images()[:100]:
        assert np.abs(place(image / 255.0, 28, 28).astype(int) - image).max() <= 1


@pytest.mark.parametrize("times", [1, 2, 10])
def test_mnists_images_come_back_from_paper(times: int, tmp_path: Path) -> None:
    """But for the blur of scaling up and down again; two different images differ by 43 levels on average."""
    differences = []
    for image in mnist.test_images()[:40]:
        page = Image.new("L", (50 * times, 40 * times), 255)
        digit = Image.fromarray(255 - image).resize((28 * times, 28 * times), Image.Resampling.BICUBIC)
        page.paste(digit, (15 * times, 2 * times))
        differences.append(difference(read_digit(saved(page, tmp_path)), image))
    assert np.median(differences) < 12
    assert max(differences) < 30


def test_the_box_is_twenty_pixels_and_its_centre_of_mass_is_centred(tmp_path: Path) -> None:
    digit = read_digit(saved(seven(300, 700), tmp_path))
    assert digit.shape == (28, 28)
    assert digit.dtype == np.uint8
    assert digit.max() == 255
    rows, columns = np.flatnonzero(digit.any(axis=1)), np.flatnonzero(digit.any(axis=0))
    assert np.ptp(rows) + 1 == 20
    assert 4 <= np.ptp(columns) + 1 <= 12  # the aspect ratio is kept: the seven is narrow
    mass = digit.astype(float)
    centre = (mass.sum(axis=1) @ np.arange(28) / mass.sum(), mass.sum(axis=0) @ np.arange(28) / mass.sum())
    assert centre == pytest.approx((14, 14), abs=0.51)


def test_polarity_is_decided_by_the_border(tmp_path: Path) -> None:
    dark_on_light = read_digit(saved(seven(), tmp_path))
    assert np.array_equal(dark_on_light, read_digit(saved(seven(ink=255, ground=0), tmp_path)))
    assert difference(dark_on_light, read_digit(saved(seven(ink=90, ground=200), tmp_path))) < 1
    # Even where ink covers most of the image.
    bold = Image.new("L", (100, 100), 255)
    ImageDraw.Draw(bold).rectangle((8, 8, 91, 91), fill=0)
    assert read_digit(saved(bold, tmp_path))[14, 14] == 255


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I"])
def test_every_mode_gives_the_same_digit(mode: str, tmp_path: Path) -> None:
    plain = seven().point(lambda level: 255 if level > 127 else 0)  # no greys: mode 1 has none
    if mode in ("I;16", "I"):
        levels = np.asarray(plain, dtype=np.uint16) * 257
        image = Image.fromarray(levels) if mode == "I;16" else Image.fromarray(levels.astype(np.int32))
        path = saved(image, tmp_path, "digit.tif" if mode == "I" else "digit.png")
    else:
        path = saved(plain.convert(mode), tmp_path)
    with Image.open(path) as image:
        assert image.mode in (mode, "I")
    assert difference(read_digit(path), read_digit(saved(plain, tmp_path, "plain.png"))) < 0.5


@pytest.mark.parametrize("ink", [0, 255])
def test_what_is_transparent_is_the_ground(ink: int, tmp_path: Path) -> None:
    drawn = seven(ink=255, ground=0)  # the ink's opacity
    image = Image.new("RGBA", drawn.size, (ink, ink, ink, 0))
    image.putalpha(drawn)
    assert difference(read_digit(saved(image, tmp_path)), read_digit(saved(drawn, tmp_path))) < 0.5


def test_a_palette_with_a_transparent_colour(tmp_path: Path) -> None:
    drawn = seven().point(lambda level: 1 if level > 127 else 0).convert("P")
    drawn.putpalette([0, 0, 0, 0, 0, 0])  # black ink on a ground whose colour is black, too, but can't be seen
    drawn.save(tmp_path / "digit.png", transparency=1)
    assert difference(read_digit(tmp_path / "digit.png"), read_digit(saved(seven(), tmp_path, "plain.png"))) < 4


def test_paper_grain_is_not_ink(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    levels = np.asarray(seven(ink=60, ground=215), dtype=float) + rng.normal(0, 3, (200, 200))
    grainy = Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))
    assert difference(read_digit(saved(grainy, tmp_path)), read_digit(saved(seven(), tmp_path, "plain.png"))) < 6


@pytest.mark.parametrize("size", [(3, 3), (8, 8), (1, 40), (40, 1), (1000, 10), (28, 28)])
def test_any_size_works(size: tuple[int, int], tmp_path: Path) -> None:
    image = Image.new("L", size, 255)
    image.putpixel((size[0] // 2, size[1] // 2), 0)
    digit = read_digit(saved(image, tmp_path))
    assert digit.shape == (28, 28)
    assert digit.max() == 255


@pytest.mark.parametrize("shape", [(14, 14, 1), (64, 48, 1), (5, 7, 1), (1, 1, 1)])
def test_other_inputs_get_other_fields(shape: tuple[int, int, int], tmp_path: Path) -> None:
    digit = read_digit(saved(seven(), tmp_path), shape)
    assert digit.shape == shape[:2]
    assert digit.max() == 255


@pytest.mark.parametrize("shape", [(28, 28, 3), (784,), (28, 28)])
def test_a_network_that_takes_no_grey_images_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="takes input of shape"):
        read_digit(saved(seven(), tmp_path), shape)


def bomb(width: int, height: int) -> bytes:
    """A PNG that promises width x height pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def test_bad_files_are_named(tmp_path: Path) -> None:
    whole = saved(seven(), tmp_path, "whole.png").read_bytes()
    bad = {
        "text.png": (b"I am no image\n", "not an image"),
        "empty.png": (b"", "not an image"),
        "truncated.png": (whole[: len(whole) // 2], "can't be read"),
        "damaged.png": (whole[:60] + b"\0\0\0\0\0\0\0\0" + whole[68:], "can't be read"),
        "large.png": (bomb(9000, 9000), "too large"),
        "huge.png": (bomb(60000, 60000), "can't be read|too large"),
        "short.png": (bomb(5000, 5000), "can't be read"),
    }
    for name, (content, reason) in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name}: .*({reason})") as caught:
            read_digit(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png: no such file"):
        read_digit(tmp_path / "none.png")
    with pytest.raises(DataError, match=f"{tmp_path.name}: .*can't be read"):
        read_digit(tmp_path)


@pytest.mark.parametrize(("low", "high"), [(0, 0), (255, 255), (128, 128), (120, 125)])
def test_an_image_that_shows_nothing_is_refused(low: int, high: int, tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(low, high + 1, (50, 50), dtype=np.uint8)
    with pytest.raises(DataError, match="shows nothing"):
        read_digit(saved(Image.fromarray(levels), tmp_path))


def test_half_blocks_draw_two_rows_in_a_line() -> None:
    image = np.array([[255, 255, 0, 0], [255, 0, 255, 0], [0, 0, 255, 0]], dtype=np.uint8)
    assert half_blocks(image) == ["█▀▄ ", "  ▀ "]


def test_the_limit_stands_before_the_pixels_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(seven(), tmp_path)
    monkeypatch.setattr(digits, "MAX_PIXELS", 200 * 200 - 1)
    monkeypatch.setattr(Image.Image, "convert", None)
    with pytest.raises(DataError, match="200 x 200 pixels is too large"):
        read_digit(path)
