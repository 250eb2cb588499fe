"""Values of metrics in files that are mapped into memory, one file per worker's place and kind.

prometheus_client has such files too, with two properties that this service cannot have. They grow
by holes, so on a full disk the first write into one ends the process (SIGBUS); here room is taken
before it is written to, and a series that finds none is dropped. And they are named after a
process; here the process that takes a dead worker's place goes on in its files, so it needs no
room, and there are never more of them. The layout is prometheus_client's (`mmap_dict`), which reads
them.
"""

from __future__ import annotations

import logging
import math
import os
import struct
from collections.abc import Iterable, Mapping, MutableSequence, Sequence, Set
from mmap import mmap
from pathlib import Path
from threading import Lock
from typing import Any, cast

from prometheus_client.mmap_dict import MmapedDict, mmap_key

logger = logging.getLogger("zoo.metrics")

FIRST_BYTES = 1 << 20
"""Of a file at first: some 3,000 series."""
STEP_BYTES = 1 << 18
"""By so much a file grows."""
ROOM_BYTES = 1 << 15
"""Free before a metric gets a new set of labels, so that a histogram has all of its buckets or
none: some twenty series of a few hundred bytes each."""
KINDS = ("counter", "histogram", "gauge_livesum", "gauge_livemax", "gauge_livemin")
_HEAD = 8
"""The first four bytes say how many are used."""


def shared_folder() -> Path | None:
    """The folder that the workers share, if there is one."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(folder) if folder else None


def reserve(descriptor: int, size: int) -> None:
    """Let a file have ``size`` bytes on the disk, without holes. Raises OSError."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    there = os.fstat(descriptor).st_size
    while there < size:  # a Mac; a write that finds little room is a short one
        there += os.pwrite(descriptor, bytes(min(size - there, FIRST_BYTES)), there)


def prepare(folder: Path, places: int) -> None:
    """Take the room for the files of so many places, before anything is served. Raises OSError."""
    for place in range(places):
        for kind in KINDS:
            _File(_path(folder, kind, place))


def files(folder: Path, living: Iterable[int]) -> list[str]:
    """The files to read: of the dead all but what they said of themselves as living."""
    found = [str(path) for kind in KINDS[:2] for path in folder.glob(f"{kind}_*.db")]
    for place in living:
        found += map(str, folder.glob(f"gauge_*_{place}.db"))
    return found


def clear_gauges(folder: Path, place: int) -> None:
    """Take out what a worker in this place said of itself."""
    for path in folder.glob(f"gauge_*_{place}.db"):
        with path.open("r+b") as file:
            file.write(struct.pack("i", _HEAD))


def _path(folder: Path, kind: str, place: int) -> Path:
    return folder / f"{kind}_{place}.db"


class _File:
    """Appends series. Not safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        """Open it, or make it. Raises OSError where there is no room."""
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b", buffering=0)
        self._size = max(FIRST_BYTES, os.fstat(self._file.fileno()).st_size)
        self._map()
        self._used: int = struct.unpack_from("i", self._bytes)[0]
        self._child: object = None
        self._forgot = False
        self._places: dict[str, int] = {}
        try:
            # prometheus-client has no type hints here
            for key, _, _, place in MmapedDict.read_all_values_from_file(path):  # type: ignore[no-untyped-call]
                self._places[key] = place
        except (RuntimeError, ValueError, struct.error) as error:  # its worker died within a write
            logger.warning("%s is begun anew: %s", path, error)
            self._places = {}
            self._used = 0
        self._set_used(max(_HEAD, self._used))

    def _map(self) -> None:
        reserve(self._file.fileno(), self._size)
        self._bytes = mmap(self._file.fileno(), self._size)
        self._values = memoryview(self._bytes).cast("d")

    def _set_used(self, size: int) -> None:
        self._used = size
        self._bytes[:4] = struct.pack("i", size)

    def cell(self, key: str, child: object) -> tuple[MutableSequence[float], int]:
        """Where a series' value is: a sequence and the index in it.

        ``child`` is what a metric's series with the same labels have in common. Raises OSError
        where it is new and there is no room.
        """
        place = self._places.get(key)
        if place is None:
            name = key.encode()
            padded = name + b" " * (8 - (len(name) + 4) % 8)
            entry = struct.pack(f"i{len(padded)}sdd", len(name), padded, 0.0, 0.0)
            if self._forgot and (found := self._bytes.find(entry[:-16], _HEAD, self._used)) >= 0:
                place = self._places[key] = found + len(entry) - 16
        if place is None:
            self._have(len(entry) if child == self._child else max(len(entry), ROOM_BYTES))
            self._child = child
            self._bytes[self._used : self._used + len(entry)] = entry
            self._set_used(self._used + len(entry))
            place = self._places[key] = self._used - 16
        return cast(MutableSequence[float], self._values), place // 8

    def _have(self, room: int) -> None:
        before = self._size
        while self._used + room > self._size:
            self._size += STEP_BYTES
        if self._size != before:
            try:
                self._map()
            except OSError:
                self._size = before
                raise

    def forget(self, key: str) -> None:
        """Do not remember where a series is; it is looked for when it comes back."""
        if self._places.pop(key, None) is not None:
            self._forgot = True

    def clear(self) -> None:
        """Forget all series; what holds a cell must not write there any more."""
        self._places.clear()
        self._set_used(_HEAD)


class _Store:
    """The files of this process, once it serves, and every value that it keeps."""

    def __init__(self) -> None:
        self.lock = Lock()
        self._values: list[Value] = []
        self._folder: Path | None = None
        self._place = 0
        self._files: dict[str, _File | None] = {}
        self._ended = self._said = False

    def begin(self, folder: Path, place: int) -> None:
        """From now on values are in the files of this place, those that are known already too."""
        with self.lock:
            self._folder, self._place = folder, place
            for value in self._values:
                value.locate()

    def end(self) -> None:
        """This process lives no more: its gauges go, what it counts from now on still counts."""
        with self.lock:
            self._ended = True
            for value in self._values:
                value.leave()
            for kind, file in self._files.items():
                if file is not None and kind.startswith("gauge"):
                    file.clear()

    def add(self, value: Value) -> None:
        """Keep a new value."""
        with self.lock:
            self._values.append(value)
            value.locate()

    def forget(self, gone: Set[tuple[str, str]]) -> None:
        """Keep no value of these versions any more; what they counted stays in the files."""
        with self.lock:
            kept = []
            for value in self._values:
                if value.version in gone:
                    value.drop(self._files)
                else:
                    kept.append(value)
            self._values = kept

    def cell(self, kind: str, key: str, child: object) -> tuple[MutableSequence[float], int] | None:
        """Where a series' value is; None where it is in no file, now or for good."""
        if self._folder is None or (self._ended and kind.startswith("gauge")):
            return None
        try:
            if kind not in self._files:
                self._files[kind] = None
                self._files[kind] = _File(_path(self._folder, kind, self._place))
            file = self._files[kind]
            return None if file is None else file.cell(key, child)
        except OSError as error:
            if not self._said:
                self._said = True
                logger.error(
                    "no room for more metrics in %s: %s; requests are answered, but what is new "
                    "to be counted is not counted until this worker is replaced",
                    self._folder,
                    error.strerror,
                )
            return None


_store = _Store()
begin, end, forget = _store.begin, _store.end, _store.forget


class Value:
    """What prometheus_client keeps the number of one series in (`values.ValueClass`).

    A process that does not serve, such as the spare one, writes none of them down: a 0 of its own
    would be the least of all. For the same reason a gauge of which the least counts is there from
    when it is first set.
    """

    _multiprocess = True

    def __init__(
        self,
        typ: str,
        metric_name: str,
        name: str,
        labelnames: Sequence[str],
        labelvalues: Sequence[str],
        help_text: str,
        multiprocess_mode: str = "",
        **_: Any,
    ) -> None:
        self._kind = f"gauge_{multiprocess_mode}" if typ == "gauge" else typ
        self._key = mmap_key(metric_name, name, list(labelnames), list(labelvalues), help_text)
        labels = dict(zip(labelnames, labelvalues, strict=True))
        self.version = labels.get("model"), labels.get("version")
        """The model and its version, where the series is of one."""
        of_all = labelvalues[:-1] if "le" in labelnames else labelvalues
        self._child = metric_name, tuple(of_all)
        self._value = 0.0
        self._set = not self._kind.endswith("min")
        self._cells: MutableSequence[float] = [0.0]
        self._index = 0
        self._located = False
        _store.add(self)

    def locate(self) -> None:
        """Take a place in this process' file, once; the lock is held."""
        if not self._set or self._located:
            return
        cell = _store.cell(self._kind, self._key, self._child)
        if cell is not None:
            self._located = True
            self._cells, self._index = cell
            if not self._kind.startswith("gauge"):  # a count goes on where it was
                self._value += self._cells[self._index]
            self._cells[self._index] = self._value

    def leave(self) -> None:
        """Where it is a gauge: write nothing more; the lock is held."""
        if self._kind.startswith("gauge"):
            self._cells, self._index = [0.0], 0

    def drop(self, files: Mapping[str, _File | None]) -> None:
        """Be forgotten; the lock is held. What a gauge says from then on changes no sum, least or
        most over all workers.
        """
        if self._kind.startswith("gauge"):
            self._cells[self._index] = math.inf if self._kind.endswith("min") else 0.0
        file = files.get(self._kind)
        if file is not None:
            file.forget(self._key)

    def inc(self, amount: float) -> None:
        """Add to it."""
        with _store.lock:
            self._value += amount
            if not self._set:
                self._begin()
            self._cells[self._index] = self._value

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Give it a value; ``timestamp`` is for modes that nobody uses here."""
        with _store.lock:
            self._value = value
            if not self._set:
                self._begin()
            self._cells[self._index] = value

    def _begin(self) -> None:
        self._set = True
        self.locate()

    def get(self) -> float:
        """What this process knows of it."""
        with _store.lock:
            return self._value

    def set_exemplar(self, exemplar: object) -> None:
        """Nothing: files hold none."""

    def get_exemplar(self) -> None:
        """None: files hold none."""
