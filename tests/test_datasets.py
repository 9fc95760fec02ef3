"""Folders of IDX files, and the guard in front of the parser."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import mnist as mnist_package
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fastcnn.datasets import check_labels, load_idx_folder, read_idx
from fastcnn.errors import DataError

TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"
STANDARD = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)
MIB = 2**20


def idx_bytes(array: np.ndarray, type_byte: int = 0x08) -> bytes:
    """The array as an IDX file; an implementation of its own, so that it can check the package's."""
    header = bytes([0, 0, type_byte, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def random_bytes(*shape: int, classes: int = 256) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, classes, shape, np.uint8)


def small_set() -> dict[str, np.ndarray]:
    """Six training and four test images, 5 x 3, three classes."""
    return {
        TRAIN_IMAGES: random_bytes(6, 5, 3),
        TRAIN_LABELS: np.array([0, 1, 2, 0, 1, 2], np.uint8),
        TEST_IMAGES: random_bytes(4, 5, 3),
        TEST_LABELS: np.array([2, 1, 0, 1], np.uint8),
    }


def write_set(folder: Path, rename: Callable[[str], str] = str, compress: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    for name, array in small_set().items():
        data = idx_bytes(array)
        (folder / rename(name)).write_bytes(gzip.compress(data) if compress else data)
    return folder


def assert_small_set(folder: Path) -> None:
    (x_train, y_train), (x_test, y_test) = load_idx_folder(folder)
    for name, array in zip(STANDARD, (x_train, y_train, x_test, y_test), strict=True):
        np.testing.assert_array_equal(array, small_set()[name])
        assert array.dtype == np.uint8
        assert array.flags.writeable


def assert_refused(folder: Path, named: str, *parts: str) -> None:
    """Loading fails with one line that names the file and contains the parts."""
    with pytest.raises(DataError) as caught:
        load_idx_folder(folder)
    message = str(caught.value)
    assert message.startswith(f"{folder / named}: ")
    assert "\n" not in message
    for part in parts:
        assert part in message


# --- finding the four files --------------------------------------------------------------------------------


def dotted(name: str) -> str:
    return name.replace("-idx", ".idx")


def emnist(name: str) -> str:
    return "emnist-letters-" + name.replace("t10k", "test")


@pytest.mark.parametrize("rename", [str, dotted, emnist])
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_folder_names(tmp_path, rename, compress, ending):
    """Compressed or not is decided by content: browsers unpack .gz files and leave the name."""
    assert_small_set(write_set(tmp_path, lambda name: rename(name) + ending, compress))


def test_standard_names_win_over_prefixed_ones_and_plain_over_gz(tmp_path):
    write_set(tmp_path)
    for name in (*map(emnist, STANDARD), *(f"{name}.gz" for name in STANDARD)):
        (tmp_path / name).write_bytes(b"never read")
    assert_small_set(tmp_path)


def test_several_prefixed_sets_are_refused(tmp_path):
    write_set(tmp_path, emnist)
    write_set(tmp_path, lambda name: f"other-{name}")
    with pytest.raises(DataError, match=r"several data sets \(emnist-letters, other\)"):
        load_idx_folder(tmp_path)


def test_folder_may_be_given_as_text(tmp_path):
    assert len(load_idx_folder(str(write_set(tmp_path)))[0][0]) == 6


@pytest.mark.parametrize("name", STANDARD)
@pytest.mark.parametrize("rename", [str, emnist])
def test_missing_file(tmp_path, name, rename):
    write_set(tmp_path, rename)
    (tmp_path / rename(name)).unlink()
    assert_refused(tmp_path, rename(name), "no such file", *map(rename, STANDARD))


def test_missing_folder(tmp_path):
    assert_refused(tmp_path / "nowhere", "", "no such folder", *STANDARD)


def test_folder_is_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    assert_refused(tmp_path / "file", "", "is not a folder", *STANDARD)


def test_empty_folder(tmp_path):
    assert_refused(tmp_path, "", "holds no IDX data set", *STANDARD)


def test_impossible_path():
    with pytest.raises(DataError, match=r"a\\x00b: can't be read"):
        load_idx_folder("a\0b")
    with pytest.raises(DataError, match=r"a\\x00b: can't be read"):
        read_idx("a\0b", 3)


def test_message_stays_on_one_line_whatever_the_path(tmp_path):
    folder = write_set(tmp_path / "two\nlines\x1b[31m")
    (folder / TRAIN_IMAGES).write_bytes(b"")
    with pytest.raises(DataError, match=r"two\\nlines\\x1b\[31m") as caught:
        load_idx_folder(folder)
    assert str(caught.value).isprintable()


# --- damaged and disagreeing files -------------------------------------------------------------------------

IMAGES = idx_bytes(small_set()[TRAIN_IMAGES])
LABELS = idx_bytes(small_set()[TRAIN_LABELS])
HEADER = IMAGES[:16]

DAMAGED = {
    "empty": (b"", "is empty"),
    "within magic": (IMAGES[:3], "truncated after 3 bytes"),
    "within header": (IMAGES[:9], "truncated within its header"),
    "header only": (HEADER, "truncated: holds 0 of the 90 bytes", "6 x 5 x 3"),
    "truncated": (IMAGES[:-1], "truncated: holds 89 of the 90 bytes", "6 x 5 x 3"),
    "trailing byte": (IMAGES + b"\0", "more than the 90 bytes", "6 x 5 x 3"),
    "a PNG": (b"\x89PNG\r\n\x1a\n" + bytes(200), "not an IDX file", "89 50 4e 47", "00 00 08 03"),
    "a web page": (b"<!DOCTYPE html>" + bytes(200), "not an IDX file"),
    "labels for images": (LABELS, "has 1 dimension; expected 3 (count, rows, columns)"),
    "floats": (idx_bytes(random_bytes(6, 5, 3), 0x0D), "32-bit floats (0x0d)", "unsigned bytes (0x08)"),
    "unknown type": (idx_bytes(random_bytes(6, 5, 3), 0x77), "an unknown type (0x77)"),
    "no images": (idx_bytes(random_bytes(0, 5, 3)), "holds no data", "0 x 5 x 3"),
    "no rows": (idx_bytes(random_bytes(6, 0, 3)), "holds no data", "6 x 0 x 3"),
    "no columns": (idx_bytes(random_bytes(6, 5, 0)), "holds no data", "6 x 5 x 0"),
    "absurd promise": (HEADER[:4] + b"\xff" * 12 + bytes(100), "expected at most 4294967296"),
}


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_images(tmp_path, case, compress):
    data, *parts = DAMAGED[case]
    if compress and not data:
        parts = ["truncated after 0 bytes"]
    write_set(tmp_path)
    (tmp_path / TRAIN_IMAGES).write_bytes(gzip.compress(data) if compress else data)
    assert_refused(tmp_path, TRAIN_IMAGES, *parts)


@pytest.mark.parametrize("name", STANDARD)
def test_each_file_is_guarded(tmp_path, name):
    write_set(tmp_path)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[:-1])
    assert_refused(tmp_path, name, "truncated")


PACKED = gzip.compress(IMAGES)


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (PACKED[:2], "gzip file is truncated"),
        (PACKED[:-9], "gzip file is truncated"),
        (PACKED[:-8] + bytes(4) + PACKED[-4:], "gzip file is damaged (CRC check failed"),
        (PACKED[:2] + b"\x09" + PACKED[3:], "gzip file is damaged"),
        (PACKED[:10] + b"\xff" * 30, "gzip file is damaged"),
        (PACKED + b"garbage", "gzip file is damaged"),
    ],
    ids=["two bytes", "cut off", "wrong checksum", "unknown method", "bad stream", "garbage after"],
)
def test_damaged_gzip(tmp_path, data, part):
    write_set(tmp_path)
    (tmp_path / TRAIN_IMAGES).write_bytes(data)
    assert_refused(tmp_path, TRAIN_IMAGES, part)


def test_labels_where_images_are_expected_and_the_reverse(tmp_path):
    write_set(tmp_path)
    (tmp_path / TEST_LABELS).write_bytes(IMAGES)
    assert_refused(tmp_path, TEST_LABELS, "has 3 dimensions; expected 1 (count)")


def test_counts_differ(tmp_path):
    write_set(tmp_path)
    (tmp_path / TEST_LABELS).write_bytes(idx_bytes(np.zeros(5, np.uint8)))
    assert_refused(tmp_path, TEST_LABELS, "holds 5 labels; expected 4", TEST_IMAGES)


def test_image_sizes_differ(tmp_path):
    write_set(tmp_path)
    (tmp_path / TEST_IMAGES).write_bytes(idx_bytes(random_bytes(4, 3, 5)))
    assert_refused(tmp_path, TEST_IMAGES, "images are 3 x 5; expected 5 x 3", TRAIN_IMAGES)


def test_test_label_that_training_does_not_know(tmp_path):
    write_set(tmp_path)
    (tmp_path / TEST_LABELS).write_bytes(idx_bytes(np.array([0, 2, 3, 1], np.uint8)))
    assert_refused(tmp_path, TEST_LABELS, "label 3 at position 2 is out of range; expected 0 to 2")


def test_check_labels():
    check_labels(np.array([0, 9]), 10, "file")
    for labels, message in (([0, 10], "label 10 at position 1"), ([-1, 0], "label -1 at position 0")):
        with pytest.raises(DataError, match=f"file: {message} is out of range; expected 0 to 9"):
            check_labels(np.array(labels), 10, "file")


def test_file_without_permission(tmp_path, monkeypatch):
    """The refusal is simulated: whoever runs the tests as the superuser may read everything."""
    write_set(tmp_path)
    real_open = Path.open

    def refuse(path, *arguments, **options):
        if path.name == TEST_IMAGES:
            raise PermissionError(13, "Permission denied", str(path))
        return real_open(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    assert_refused(tmp_path, TEST_IMAGES, "can't be read (Permission denied)", "permissions")


def test_folder_without_permission(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert_refused(tmp_path, "", "can't be read (Permission denied)", "permissions")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are a POSIX thing")
def test_only_regular_files_are_opened(tmp_path):
    write_set(tmp_path)
    (tmp_path / TRAIN_IMAGES).unlink()
    os.mkfifo(tmp_path / TRAIN_IMAGES)  # opening it would wait for a writer
    assert_refused(tmp_path, TRAIN_IMAGES, "is not a regular file")
    (tmp_path / TRAIN_IMAGES).unlink()
    (tmp_path / TRAIN_IMAGES).mkdir()
    assert_refused(tmp_path, TRAIN_IMAGES, "is not a regular file")
    (tmp_path / TRAIN_IMAGES).rmdir()
    (tmp_path / TRAIN_IMAGES).symlink_to(tmp_path / "nothing")
    assert_refused(tmp_path, TRAIN_IMAGES, "no such file")


# --- gzip bombs --------------------------------------------------------------------------------------------


def zipped_zeros(path: Path, header: bytes, mebibytes: int) -> None:
    with gzip.open(path, "wb", compresslevel=6) as file:
        file.write(header)
        for _ in range(mebibytes):
            file.write(bytes(MIB))


@pytest.mark.parametrize(
    ("shape", "part"),
    [((10, 28, 28), "more than the 7840 bytes"), ((200, 1024, 1024), "gzip bomb")],
    ids=["small promise", "large promise"],
)
def test_gzip_bomb_takes_no_memory(tmp_path, shape, part):
    write_set(tmp_path)
    zipped_zeros(tmp_path / TRAIN_IMAGES, b"\0\0\x08\x03" + struct.pack(">3I", *shape), 200)
    assert (tmp_path / TRAIN_IMAGES).stat().st_size < MIB
    tracemalloc.start()
    try:
        assert_refused(tmp_path, TRAIN_IMAGES, part)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * MIB


def test_plain_file_with_a_large_promise_takes_no_memory(tmp_path):
    write_set(tmp_path)
    (tmp_path / TRAIN_IMAGES).write_bytes(b"\0\0\x08\x03" + struct.pack(">3I", 1000, 1024, 1024) + bytes(9))
    tracemalloc.start()
    try:
        assert_refused(tmp_path, TRAIN_IMAGES, "truncated: holds 9 of the 1048576000 bytes")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * MIB


def test_well_compressed_small_images_are_no_bomb(tmp_path):
    path = tmp_path / "blank"
    blank = np.zeros((2000, 28, 28), np.uint8)
    path.write_bytes(gzip.compress(idx_bytes(blank)))
    assert blank.nbytes > 200 * path.stat().st_size
    assert np.array_equal(read_idx(path, 3), blank)


# --- properties --------------------------------------------------------------------------------------------

PROPERTY = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def idx_like() -> st.SearchStrategy[bytes]:
    """Bytes that get past the first checks: a plausible header, small sizes, a body of about any length."""
    size = st.one_of(st.integers(0, 4), st.integers(0, 2**32 - 1)).map(lambda n: n.to_bytes(4, "big"))
    magic = st.tuples(st.sampled_from([0, 8, 9, 13]), st.integers(0, 4)).map(lambda t: bytes([0, 0, *t]))
    sizes = st.lists(size, max_size=4).map(b"".join)
    return st.tuples(magic, sizes, st.binary(max_size=80)).map(b"".join)


@PROPERTY
@given(st.one_of(st.binary(max_size=200), idx_like()), st.sampled_from([1, 3]), st.sampled_from("pgc"))
def test_arbitrary_bytes_raise_nothing_but_data_errors(tmp_path, data, dimensions, packing):
    """Plain, compressed, or made to look compressed; what is accepted, `mnist` must parse to the same."""
    path = tmp_path / "file"
    path.write_bytes({"p": data, "g": gzip.compress(data), "c": PACKED[:10] + data}[packing])
    message = ""
    try:
        array = read_idx(path, dimensions)
    except DataError as error:
        message = str(error)
    if message:
        assert message.startswith(f"{path}: ")
        assert message.isprintable()
    else:
        assert packing != "c"
        assert np.array_equal(array, mnist_package.parse_idx(io.BytesIO(data)))


@PROPERTY
@given(st.data(), st.sampled_from([1, 3]), st.booleans())
def test_any_array_comes_back(tmp_path, data, dimensions, compress):
    shape = data.draw(array_shapes(min_dims=dimensions, max_dims=dimensions, max_side=9))
    array = data.draw(arrays(np.uint8, shape))
    path = tmp_path / "file"
    written = idx_bytes(array)
    path.write_bytes(gzip.compress(written) if compress else written)
    read = read_idx(path, dimensions, sha256=hashlib.sha256(written).hexdigest())
    np.testing.assert_array_equal(read, array)
    np.testing.assert_array_equal(read, mnist_package.parse_idx(io.BytesIO(written)))
    assert read.dtype == np.uint8
    assert read.flags.writeable
    with pytest.raises(DataError, match="SHA-256"):
        read_idx(path, dimensions, sha256="0" * 64)
