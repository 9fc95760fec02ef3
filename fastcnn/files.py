"""Output files: known to be writable before hours of work go into them, and never half-written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from fastcnn.errors import ArgumentError, FastcnnError


def check_writable(name: str, path: str | os.PathLike[str]) -> None:
    """Make sure that `write` will succeed, as far as can be told now. Leaves nothing behind.

    Args:
        name: the argument that the path came from, for the message.
        path: a file that may exist or not.

    Raises:
        ArgumentError: the folder doesn't exist or can't be written to, or the path is a folder, a device or a pipe.
    """
    target = Path(os.path.realpath(path))
    try:
        _check_replaceable(target)
        if target.exists() and not os.access(target, os.W_OK):
            raise PermissionError(None, "Permission denied")
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except (OSError, ValueError) as problem:  # ValueError: a path that no file can have
        raise _unwritable(name, path, problem) from None


def write(name: str, path: str | os.PathLike[str], content: bytes, error: type[FastcnnError] = ArgumentError) -> None:
    """Write a file: to a temporary one in the same folder, then renamed over what stood there.

    Args:
        name: the argument that the path came from, for the message.
        path: an existing file is replaced.
        content: all of it.
        error: the class of what is raised.

    Raises:
        ArgumentError, or `error`: the file can't be written; what stood there before still stands.
    """
    target = Path(os.path.realpath(path))
    try:
        _check_replaceable(target)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    except (OSError, ValueError) as problem:
        raise _unwritable(name, path, problem, error) from None


def _check_replaceable(target: Path) -> None:
    """Raise an OSError where a rename would fail (a folder) or destroy what is no file (``/dev/null``, to root)."""
    if target.is_dir():
        raise IsADirectoryError(None, "Is a directory")
    if target.exists() and not target.is_file():
        raise OSError(None, "Is a device or a pipe")


def _umask() -> int:
    """The permissions that new files don't get; it can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _unwritable(
    name: str, path: str | os.PathLike[str], problem: Exception, error: type[FastcnnError] = ArgumentError
) -> FastcnnError:
    reason = getattr(problem, "strerror", None) or str(problem)
    return error(f"{name} {path}: can't be written ({reason}); give a file in a folder that can be")
