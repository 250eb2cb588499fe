"""Looks at the model repository and finds the versions that have come, changed or gone.

It compares directory listings, because network volumes send no notice of changes. A folder that is
still being written is left alone until it is complete or has stopped changing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from service.manifest import FILE_NAME, VERSION, EnsembleManifest, Manifest, RefusedModelError
from service.repository import versions_on_disk
from service.repository.versions_on_disk import Version

logger = logging.getLogger("zoo.versions")

MAX_FILES = 1000
"""How many files of a version are looked at; changes of further ones go unnoticed."""

Files = tuple[tuple[str, int, int, int], ...]
"""Name, bytes, time of change and inode of each file of a version."""
Key = tuple[str, str]
"""A model's name and the number of a version."""


@dataclass
class Changes:
    """What one look found."""

    arrived: list[tuple[Version, Manifest | EnsembleManifest]] = field(default_factory=list)
    """Versions that are new or whose files have changed."""
    broken: list[tuple[Version, str]] = field(default_factory=list)
    """Versions that are new or changed and must not be served, each with the reason."""
    gone: list[Version] = field(default_factory=list)


class Watcher:
    """Remembers what the last look saw. A look blocks for some ms: one at a time, in any thread."""

    def __init__(self, folder: Path, only: Container[str] | None = None) -> None:
        """Watch the models ``only`` in the repository ``folder``; None: all of them."""
        self._folder = folder
        self._only = only
        self._judged: dict[Key, Files] = {}
        """The files of each version when it was accepted or refused."""
        self._resting: dict[Key, Files] = {}
        """The files that incomplete versions had at the last look."""
        self._missing: set[Key] = set()
        self._unreadable = False

    def look(
        self, name: str | None = None, *, patient: bool = True, again: Container[str] = ()
    ) -> Changes:
        """Return what has changed since the last look, of model ``name`` or of all.

        ``patient``: an incomplete version is judged only when it has not changed from one look to
        the next, and a version has gone only when it is missing twice. Otherwise both are decided
        at once, because somebody says that all files are there. Versions of model ``name`` that
        are in ``again`` are judged even if they have not changed.
        """
        changes = Changes()
        try:
            present, unknown = self._list(name)
            if self._judged and not present and name is None:
                raise FileNotFoundError(2, "it is empty")
        except OSError as error:
            if not self._unreadable:
                logger.error("%s cannot be read, all stays as it is: %s", self._folder, error)
            self._unreadable = True
            return changes
        self._unreadable = False
        for key, files in present.items():
            if self._judged.get(key) != files or (name is not None and key[1] in again):
                self._judge(key, files, changes, patient=patient)
        for key in [key for key in self._judged if name in (None, key[0])]:
            if key in present or key[0] in unknown:
                self._missing.discard(key)
            elif patient and key not in self._missing:
                self._missing.add(key)
            else:
                self._missing.discard(key)
                del self._judged[key]
                changes.gone.append(self._version(key))
        for key in [key for key in self._resting if name in (None, key[0])]:
            if key not in present:
                del self._resting[key]
        return changes

    def _version(self, key: Key) -> Version:
        return Version(*key, self._folder / key[0] / key[1])

    def _judge(self, key: Key, files: Files, changes: Changes, *, patient: bool) -> None:
        found = self._version(key)
        manifest: Manifest | EnsembleManifest | None = None
        try:
            manifest = versions_on_disk.read(found)
            reason = _incomplete(manifest, files) if patient else None
        except RefusedModelError as error:
            reason = str(error)
        if reason is not None and patient and self._resting.get(key) != files:
            self._resting[key] = files
            return
        self._resting.pop(key, None)
        self._judged[key] = files
        if manifest is not None and reason is None:
            changes.arrived.append((found, manifest))
        else:
            changes.broken.append((found, reason or ""))

    def _list(self, name: str | None) -> tuple[dict[Key, Files], set[str]]:
        """Return every version with its files, and the models whose folder cannot be read now.

        A new version without a manifest is skipped as unfinished, except at the first look.
        """
        first = not self._judged
        names = [entry.name for entry in os.scandir(self._folder)] if name is None else [name]
        present: dict[Key, Files] = {}
        unknown: set[str] = set()
        for model in sorted(names):
            if model.startswith((".", "_")) or (self._only is not None and model not in self._only):
                continue
            if not model.isascii():  # not a valid model name, and no header could carry it
                continue
            try:
                for number, files in self._versions(model):
                    key = model, number
                    seen = first or key in self._judged
                    if seen or any(file[0] == FILE_NAME for file in files):
                        present[key] = files
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError:
                unknown.add(model)
        return present, unknown

    def _versions(self, model: str) -> Iterator[tuple[str, Files]]:
        with os.scandir(self._folder / model) as entries:
            numbers = [
                (entry.name, entry.path)
                for entry in entries
                if VERSION.fullmatch(entry.name) and entry.is_dir()
            ]
        for number, path in sorted(numbers, key=lambda found: int(found[0])):
            try:
                yield number, _files(path)
            except FileNotFoundError:
                continue
            except OSError:  # it exists; reading its manifest will say what is wrong
                yield number, ((FILE_NAME, -1, 0, 0),)


def _files(folder: str) -> Files:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                status = entry.stat()
            except FileNotFoundError:  # a dangling link, or removed meanwhile
                continue
            found.append((entry.name, status.st_size, status.st_mtime_ns, status.st_ino))
            if len(found) == MAX_FILES:
                break
    return tuple(sorted(found))


def _incomplete(manifest: Manifest | EnsembleManifest, files: Files) -> str | None:
    """Return which file is missing or has another size than the manifest says, or None."""
    if manifest.kind == "ensemble":
        return None
    sizes = {name: size for name, size, _, _ in files}
    for file in manifest.files:
        if file.path not in sizes:
            return f"{file.path} is missing"
        if sizes[file.path] != file.bytes:
            return f"{file.path} has {sizes[file.path]} bytes, the manifest says {file.bytes}"
    return None
