"""Reading one IDX file safely: everything it claims is checked before memory is taken on its word.

An IDX file is two zero bytes, a type byte (0x08: unsigned bytes), a byte with the number of dimensions, each
dimension as a big-endian 32-bit integer, and the elements in row-major order.

The `mnist` package parses this format, but it reads without a bound and trusts what it reads. So this guard
stands in front of it, and hands over only bytes whose type, dimensions and length are known to be right.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import os
import stat
import struct
import zlib
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastcnn.errors import DataError

UNSIGNED_BYTE = 0x08
GZIP_MAGIC = b"\x1f\x8b"
MIB = 2**20
MAX_BYTES = 4096 * MIB  # what one file may hold once unpacked

# A gzip file that unpacks to more than BOMB_FREE bytes may not exceed BOMB_RATIO times its own size. Real
# images reach about 10, deflate itself 1032.
BOMB_FREE = 64 * MIB
BOMB_RATIO = 200

CHUNK = 256 * 1024  # read at a time: unpacked bytes are copied once more while they are still in the cache

TYPE_NAMES = {
    0x09: "signed bytes",
    0x0B: "16-bit integers",
    0x0C: "32-bit integers",
    0x0D: "32-bit floats",
    0x0E: "64-bit floats",
}
AXES = {1: "count", 3: "count, rows, columns"}

Source: TypeAlias = IO[bytes] | gzip.GzipFile


def read_idx(path: str | os.PathLike[str], dimensions: int, *, sha256: str | None = None) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, plain or gzip-compressed (its content tells, not its name).

    Args:
        path: The file.
        dimensions: How many dimensions it must have: 1 for labels, 3 for images.
        sha256: The SHA-256 digest that the unpacked file must have, in hexadecimal; by default any.

    Returns:
        A new, writable uint8 array: (count,) or (count, rows, columns).

    Raises:
        DataError: The file is missing, unreadable, damaged, not such an IDX file, or has another digest.
    """
    path = Path(path)
    name = printable(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{name}: is not a regular file; expected an IDX file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise DataError(f"{name}: is empty; expected an IDX file, copy or download it again")
            if file.peek(2)[:2] != GZIP_MAGIC:
                return _read(file, name, dimensions, size, False, sha256)
            with gzip.GzipFile(fileobj=file, mode="rb") as unzipped:
                return _read(unzipped, name, dimensions, size, True, sha256)
    except EOFError:
        raise DataError(f"{name}: the gzip file is truncated; copy or download it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{name}: the gzip file is damaged ({error}); copy or download it again") from None
    except FileNotFoundError:
        raise DataError(f"{name}: no such file; expected an IDX file") from None
    except DataError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a path that no file can have
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{name}: can't be read ({reason}); check the path and its permissions") from None


def printable(path: str | os.PathLike[str]) -> str:
    """The path on one line: control characters and undecodable bytes are shown as escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in os.fspath(path))


def _read(file: Source, name: str, dimensions: int, size: int, zipped: bool, sha256: str | None) -> NDArray[np.uint8]:
    """Read the header, hold its promise against the file's size, then read exactly what it promised."""
    header = _read_header(file, name, dimensions, zipped)
    shape = struct.unpack(f">{dimensions}I", header[4:])
    promised = math.prod(shape)
    shape_text = " x ".join(map(str, shape))
    if promised == 0:
        raise DataError(f"{name}: holds no data (its size is {shape_text}); expected at least one element")
    if promised > MAX_BYTES:
        raise DataError(f"{name}: promises {promised} bytes ({shape_text}); expected at most {MAX_BYTES}")
    if zipped:
        if promised > max(BOMB_FREE, BOMB_RATIO * size):
            raise DataError(
                f"{name}: {size} compressed bytes promise {promised} ({shape_text}), more than {BOMB_RATIO} "
                "times as many: refused as a gzip bomb; unpack the file yourself if you trust it"
            )
    else:
        _check_complete(name, shape_text, promised, size - len(header))

    try:
        data = np.empty(shape, np.uint8)
    except MemoryError:
        raise DataError(f"{name}: needs {promised} bytes of memory, more than there is") from None
    _check_complete(name, shape_text, promised, _fill(file, data.reshape(-1)))
    if file.read(1):
        raise DataError(f"{name}: holds more than the {promised} bytes its header promises ({shape_text})")
    if sha256 is not None:
        digest = hashlib.sha256(header)
        digest.update(data.reshape(-1).data)
        if digest.hexdigest() != sha256:
            raise DataError(f"{name}: has the SHA-256 digest {digest.hexdigest()}; expected {sha256}")
    if dimensions == 1:
        return _parse(header + data.tobytes())
    # Images don't go through `mnist`: it copies them three times, which for MNIST's 47 MB takes 0.2 to 0.3 s
    # in a new process, longer than unpacking them. Unsigned bytes already lie in `data` as they should.
    return data


def _read_header(file: Source, name: str, dimensions: int, zipped: bool) -> bytes:
    """Read and check magic, type and number of dimensions; return the whole header."""
    expected = bytes([0, 0, UNSIGNED_BYTE, dimensions])
    length = 4 + 4 * dimensions
    header = file.read(length)
    if header[:2] != expected[: len(header[:2])]:
        what = "the unpacked file" if zipped else "the file"
        found = header[:4].hex(" ")
        raise DataError(f"{name}: is not an IDX file: {what} starts with {found}, expected {expected.hex(' ')}")
    if len(header) < 4:
        raise DataError(f"{name}: is truncated after {len(header)} bytes; copy or download it again")
    if header[2] != UNSIGNED_BYTE:
        found = TYPE_NAMES.get(header[2], "an unknown type")
        raise DataError(f"{name}: holds {found} (0x{header[2]:02x}); expected unsigned bytes (0x08)")
    if header[3] != dimensions:
        plural = "" if header[3] == 1 else "s"
        axes = f" ({AXES[dimensions]})" if dimensions in AXES else ""
        raise DataError(f"{name}: has {header[3]} dimension{plural}; expected {dimensions}{axes}")
    if len(header) < length:
        raise DataError(f"{name}: is truncated within its header; copy or download it again")
    return header


def _check_complete(name: str, shape_text: str, promised: int, found: int) -> None:
    """Compare the number of bytes after the header with the number it promises."""
    if found < promised:
        raise DataError(
            f"{name}: is truncated: holds {found} of the {promised} bytes its header promises "
            f"({shape_text}); copy or download it again"
        )


def _fill(file: Source, data: NDArray[np.uint8]) -> int:
    """Read into `data` (one dimension) until it is full or the file ends; return the number of bytes read."""
    view = data.data
    filled = 0
    while filled < len(view):
        chunk = file.read(min(CHUNK, len(view) - filled))
        if not chunk:
            break
        view[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    return filled


def _parse(raw: bytes) -> NDArray[np.uint8]:
    """Parse a checked IDX file with the `mnist` package (imported here: it brings a network client along)."""
    from mnist import parse_idx

    array: NDArray[np.uint8] = parse_idx(io.BytesIO(raw))
    return array
