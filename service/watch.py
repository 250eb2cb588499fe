"""Looks at the model repository: which versions have come, changed, or gone.

Plain looking, again and again, because it works on every file system; network volumes tell nobody
of changes. A folder that is still being written is left alone until it is whole or has rested.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from service import repository
from service.manifest import FILE_NAME, EnsembleManifest, Manifest
from service.policy import VERSION
from service.repository import RefusedModelError, Version

logger = logging.getLogger("zoo.versions")

MAX_FILES = 1000
"""Files of a version that are looked at; the others go unnoticed."""

Files = tuple[tuple[str, int, int, int], ...]
"""Name, bytes, time of change and inode of each file of a version."""


@dataclass
class Changes:
    """What a look found out."""

    arrived: list[tuple[Version, Manifest | EnsembleManifest]] = field(default_factory=list)
    """New, or with other files than before."""
    broken: list[tuple[Version, str]] = field(default_factory=list)
    """The same, but not to be served, and why."""
    gone: list[Version] = field(default_factory=list)


class Watch:
    """Remembers what was seen. One look at a time, in any thread: it blocks, some ms."""

    def __init__(self, folder: Path, only: Container[str] | None = None) -> None:
        """Of the repository ``folder`` only these models are looked at; None: all."""
        self._folder = folder
        self._only = only
        self._judged: dict[Version, Files] = {}
        """The files by which a version was accepted or refused."""
        self._resting: dict[Version, Files] = {}
        """The files of versions that are not whole, at the last look."""
        self._missing: set[Version] = set()
        self._unreadable = False

    def look(self, name: str | None = None, *, patient: bool = True) -> Changes:
        """What has changed since the last look, of one model or all.

        With patience, what is not whole is judged when nothing in it has changed from one look to
        the next, and what is missing has gone when it is missing twice. Without, at once: somebody
        says that all is there.
        """
        changes = Changes()
        try:
            there, unknown = self._list(name)
            if self._judged and not there and name is None:
                raise FileNotFoundError(2, "it is empty")
        except OSError as error:
            if not self._unreadable:
                logger.error("%s cannot be read, all stays as it is: %s", self._folder, error)
            self._unreadable = True
            return changes
        self._unreadable = False
        for found, files in there.items():
            self._judge(found, files, changes, patient=patient)
        for found in [found for found in self._judged if name in (None, found.name)]:
            if found in there or found.name in unknown:
                self._missing.discard(found)
            elif patient and found not in self._missing:
                self._missing.add(found)
            else:
                self._missing.discard(found)
                del self._judged[found]
                changes.gone.append(found)
        for found in [found for found in self._resting if name in (None, found.name)]:
            if found not in there:
                del self._resting[found]
        return changes

    def _judge(self, found: Version, files: Files, changes: Changes, *, patient: bool) -> None:
        if self._judged.get(found) == files:
            return
        manifest: Manifest | EnsembleManifest | None = None
        try:
            manifest = repository.read(found)
            reason = _unlike(manifest, files) if patient else None
        except RefusedModelError as error:
            reason = str(error)
        if reason is not None and patient and self._resting.get(found) != files:
            self._resting[found] = files
            return
        self._resting.pop(found, None)
        self._judged[found] = files
        if manifest is not None and reason is None:
            changes.arrived.append((found, manifest))
        else:
            changes.broken.append((found, reason or ""))

    def _list(self, name: str | None) -> tuple[dict[Version, Files], set[str]]:
        """Every version and its files; the models whose folder cannot be read now.

        A new version without a manifest is not there yet, but at the first look nobody copies.
        """
        first = not self._judged
        names = [entry.name for entry in os.scandir(self._folder)] if name is None else [name]
        there: dict[Version, Files] = {}
        unknown: set[str] = set()
        for model in sorted(names):
            if model.startswith((".", "_")) or (self._only is not None and model not in self._only):
                continue
            try:
                for found, files in self._versions(model):
                    seen = first or found in self._judged
                    if seen or any(name == FILE_NAME for name, *_ in files):
                        there[found] = files
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError:
                unknown.add(model)
        return there, unknown

    def _versions(self, model: str) -> Iterator[tuple[Version, Files]]:
        folder = self._folder / model
        numbers = [child for child in os.listdir(folder) if VERSION.fullmatch(child)]
        for number in sorted(numbers, key=int):
            path = folder / number
            if path.is_dir():
                yield Version(model, number, path), _files(path)


def _files(folder: Path) -> Files:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                about = entry.stat()
            except FileNotFoundError:  # a link to nowhere, or removed right now
                continue
            found.append((entry.name, about.st_size, about.st_mtime_ns, about.st_ino))
            if len(found) == MAX_FILES:
                break
    return tuple(sorted(found))


def _unlike(manifest: Manifest | EnsembleManifest, files: Files) -> str | None:
    """What is missing or has another size than the manifest says, or None."""
    if isinstance(manifest, EnsembleManifest):
        return None
    sizes = {name: size for name, size, _, _ in files}
    for file in manifest.files:
        if file.path not in sizes:
            return f"{file.path} is missing"
        if sizes[file.path] != file.bytes:
            return f"{file.path} has {sizes[file.path]} bytes, the manifest says {file.bytes}"
    return None
