"""Writing a version folder so that it appears all at once, or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from export.errors import ExportError, OutputRefused
from service.manifest import NAME, TAKEN_NAME, VERSION


def destination(output: Path, name: str, version: str, *, force: bool) -> Path:
    """The folder of a version. Raises ExportError for a name or a version that no model may have,
    OutputRefused when it is taken.
    """
    if name == TAKEN_NAME:
        raise ExportError(f"name {name!r} is no model's: a route of the service has it")
    if not NAME.fullmatch(name):
        raise ExportError(
            f"name {name!r} is no model's: up to 64 of a-z, 0-9, _ and -, the first of a-z and 0-9"
        )
    if not VERSION.fullmatch(version):
        raise ExportError(f"version {version!r} is no whole number from 1 to 999999999")
    target = output / name / version
    if target.exists() and not target.is_dir():
        raise OutputRefused(f"{target} is in the way: it is no folder")
    if target.exists() and not force:
        raise OutputRefused(f"{target} is already there; --force replaces it")
    return target


@contextlib.contextmanager
def workshop(output: Path) -> Iterator[Path]:
    """A hidden folder inside ``output``; what is left of it goes, and so does a new ``output``.

    Raises OutputRefused when ``output`` cannot be written, then or later.
    """
    new = [path for path in (output, *output.parents) if not path.exists()]
    try:
        try:
            output.mkdir(parents=True, exist_ok=True)
            # the service ignores names that start with a dot
            folder = Path(tempfile.mkdtemp(prefix=".building-", dir=output))
            try:
                folder.chmod(0o755)
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        except OSError as error:
            raise OutputRefused(f"cannot write to {output}: {error.strerror or error}") from error
    except BaseException:
        with contextlib.suppress(OSError):  # one with something in it stays
            for path in new:  # deepest first
                path.rmdir()
        raise


def publish(folder: Path, target: Path) -> None:
    """Rename ``folder`` to ``target``; a version that was there gives way, or stays on failure."""
    parent_is_new = not target.parent.exists()
    target.parent.mkdir(exist_ok=True)
    old = folder.with_name(f"{folder.name}-old")
    replaced = target.exists()
    try:
        if replaced:
            os.rename(target, old)
        os.rename(folder, target)
    except BaseException:
        if replaced and old.exists() and not target.exists():
            os.rename(old, target)
        if parent_is_new:
            target.parent.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)
