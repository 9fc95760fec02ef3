"""Makes the package's MNIST files from the four raw ones: `python -m fastcnn.datasets.build FOLDER`.

The raw files must have the published SHA-256 digests. The result is reproducible: the gzip headers hold
neither time nor name, so that the same files and the same zlib give the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import sys
from pathlib import Path

from fastcnn.datasets.idx import printable
from fastcnn.datasets.mnist import DIGESTS, FOLDER
from fastcnn.errors import DataError


def build(source: Path, target: Path = FOLDER) -> list[Path]:
    """Check the four raw files and write them compressed.

    Args:
        source: The folder with the raw files, under their own names (train-images-idx3-ubyte, ...).
        target: The folder to write to; by default the package's.

    Returns:
        The files written.

    Raises:
        DataError: A raw file can't be read or has another digest; nothing is written then.
    """
    raw = {name: _read_checked(source / name, digest) for name, digest in DIGESTS.items()}
    return [_write(target / f"{name}.gz", data) for name, data in raw.items()]


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m fastcnn.datasets.build", description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder with the four raw IDX files")
    try:
        written = build(parser.parse_args(arguments).folder)
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in written:
        print(f"{path}: {path.stat().st_size} bytes")
    return 0


def _read_checked(path: Path, sha256: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{printable(path)}: can't be read ({error.strerror}); expected a raw IDX file") from None
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise DataError(f"{printable(path)}: has the SHA-256 digest {found}; expected {sha256}")
    return data


def _write(path: Path, data: bytes) -> Path:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with (
            temporary.open("wb") as file,
            # Level 9 is the smallest and, having the fewest symbols, also the quickest to unpack.
            gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=9, mtime=0) as zipped,
        ):
            zipped.write(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


if __name__ == "__main__":
    sys.exit(main())
