"""The embedded MNIST: its files, both faces that people know, and how the files were built."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import mnist as mnist_package
import numpy as np
import pytest

from fastcnn.datasets import build, mnist
from fastcnn.errors import ArgumentError, DataError

TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"
STANDARD = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)


@pytest.mark.parametrize("name", STANDARD)
def test_embedded_files_have_the_published_digests(name):
    raw = gzip.decompress((mnist.FOLDER / f"{name}.gz").read_bytes())
    assert hashlib.sha256(raw).hexdigest() == mnist.DIGESTS[name]


def test_embedded_files_are_small_and_licensed():
    assert sum(path.stat().st_size for path in mnist.FOLDER.glob("*.gz")) <= 11_600_000
    licence = (mnist.FOLDER / "LICENSE-DATA").read_text()
    for words in ("Yann LeCun", "Corinna Cortes", "CC BY-SA 3.0", *mnist.DIGESTS.values()):
        assert words in licence


def test_both_faces_give_the_same_arrays_as_the_mnist_package():
    (x_train, y_train), (x_test, y_test) = mnist.load_data()
    faces = (mnist.train_images, mnist.train_labels, mnist.test_images, mnist.test_labels)
    shapes = ((60000, 28, 28), (60000,), (10000, 28, 28), (10000,))
    loaded = (x_train, y_train, x_test, y_test)
    for name, face, shape, array in zip(STANDARD, faces, shapes, loaded, strict=True):
        again = face()
        with gzip.open(mnist.FOLDER / f"{name}.gz") as file:
            expected = mnist_package.parse_idx(file)
        assert array.shape == shape
        assert array.dtype == again.dtype == np.uint8
        assert np.array_equal(array, expected)
        assert np.array_equal(again, expected)


def test_arrays_are_new_and_writable():
    first, second = mnist.test_labels(), mnist.test_labels()
    first[:] = 99
    assert second.max() == 9
    assert mnist.test_labels().max() == 9
    assert mnist.test_images().flags.writeable


def test_load_data_accepts_keras_default_path_only():
    assert len(mnist.load_data(path="mnist.npz")[1][1]) == 10000
    with pytest.raises(ArgumentError, match="load_idx_folder") as caught:
        mnist.load_data("my/folder")
    assert "'my/folder'" in str(caught.value)


def damage_nothing_but_one_pixel(path: Path) -> None:
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[-1] ^= 1
    path.write_bytes(gzip.compress(bytes(raw)))


def damage_the_gzip_data(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [damage_nothing_but_one_pixel, damage_the_gzip_data, Path.unlink])
def test_damaged_installation_is_refused(tmp_path, monkeypatch, damage):
    shutil.copy(mnist.FOLDER / f"{TEST_LABELS}.gz", tmp_path)
    monkeypatch.setattr(mnist, "FOLDER", tmp_path)
    assert len(mnist.test_labels()) == 10000
    damage(tmp_path / f"{TEST_LABELS}.gz")
    with pytest.raises(DataError, match="reinstall fastcnn") as caught:
        mnist.test_labels()
    assert str(caught.value).startswith(f"{tmp_path / TEST_LABELS}.gz: ")
    assert "\n" not in str(caught.value)


def test_importing_datasets_is_light():
    program = (
        "import sys; from fastcnn.datasets import mnist; "
        "print([m for m in ('numba', 'mnist', 'urllib.request', 'rich', 'PIL') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# --- building the embedded files ---------------------------------------------------------------------------


@pytest.fixture
def raw_labels(tmp_path, monkeypatch):
    """A folder with the two raw label files, and a build that knows of these two only (images take 15 s)."""
    labels = {name: mnist.DIGESTS[name] for name in (TRAIN_LABELS, TEST_LABELS)}
    monkeypatch.setattr(build, "DIGESTS", labels)
    source = tmp_path / "raw"
    source.mkdir()
    for name in labels:
        (source / name).write_bytes(gzip.decompress((mnist.FOLDER / f"{name}.gz").read_bytes()))
    return source


def test_build_is_reproducible_and_anonymous(raw_labels, tmp_path):
    results = []
    for target in (tmp_path / "a", tmp_path / "b"):
        target.mkdir()
        assert build.build(raw_labels, target) == [
            target / f"{TRAIN_LABELS}.gz",
            target / f"{TEST_LABELS}.gz",
        ]
        results.append({path.name: path.read_bytes() for path in target.iterdir()})
    assert results[0] == results[1]
    assert set(results[0]) == {f"{TRAIN_LABELS}.gz", f"{TEST_LABELS}.gz"}
    for name, data in results[0].items():
        assert data[3:8] == bytes(5)  # no name or other field, no time
        assert gzip.decompress(data) == (raw_labels / name.removesuffix(".gz")).read_bytes()


def test_build_writes_nothing_from_a_wrong_file(raw_labels, tmp_path):
    (raw_labels / TEST_LABELS).write_bytes(b"\0\0\x08\x01")
    with pytest.raises(DataError, match="SHA-256") as caught:
        build.build(raw_labels, tmp_path)
    assert str(caught.value).startswith(f"{raw_labels / TEST_LABELS}: ")
    assert not list(tmp_path.glob("*.gz"))


def test_build_command_reports_a_missing_file_with_status_2(tmp_path, capsys):
    assert build.main([str(tmp_path)]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"error: {tmp_path / TRAIN_IMAGES}: can't be read")
    assert output.err.count("\n") == 1
