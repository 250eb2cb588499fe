"""Keeps the values of metrics in files mapped into memory, one per worker's number and kind.

prometheus_client has such files too, with two properties that this service cannot live with. They
grow by holes, so on a full disk the first write into a hole ends the process (SIGBUS); here room is
reserved before it is written to, and a series for which there is none is not kept. And each process
makes files of its own; here the process that replaces a dead worker goes on in its files, which
needs no room. The layout is prometheus_client's (`mmap_dict`), which reads the files.

"Place" below is a worker's number, from 0 on: see `multiprocess`.
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
"""The size of a new file, enough for some 3,000 series."""
STEP_BYTES = 1 << 18
"""The bytes by which a file grows."""
ROOM_BYTES = 1 << 15
"""The bytes that must be free before a metric gets a new set of labels, so that a histogram has all
of its buckets or none: some twenty series of a few hundred bytes each."""
KINDS = ("counter", "histogram", "gauge_livesum", "gauge_livemax", "gauge_livemin")
_HEAD = 8
"""The bytes before the first series. The first four of them say how many bytes are used."""


def shared_folder() -> Path | None:
    """Return the folder in which the workers share their metrics, if there is one."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(folder) if folder else None


def reserve(descriptor: int, size: int) -> None:
    """Reserve ``size`` bytes of disk for an open file, without holes. Raises OSError."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    written = os.fstat(descriptor).st_size
    while written < size:  # a Mac; where there is little room, fewer bytes are written than asked
        written += os.pwrite(descriptor, bytes(min(size - written, FIRST_BYTES)), written)


def prepare(folder: Path, places: int) -> None:
    """Make the files of ``places`` workers and reserve their room, before anything is served.

    Raises OSError.
    """
    for place in range(places):
        for kind in KINDS:
            _File(_path(folder, kind, place))


def files(folder: Path, living: Iterable[int]) -> list[str]:
    """Return the files to add up: all counters and histograms, the gauges of ``living`` places."""
    found = [str(path) for kind in KINDS[:2] for path in folder.glob(f"{kind}_*.db")]
    for place in living:
        found += map(str, folder.glob(f"gauge_*_{place}.db"))
    return found


def clear_gauges(folder: Path, place: int) -> None:
    """Empty the files of gauges that a former worker in this place has left."""
    for path in folder.glob(f"gauge_*_{place}.db"):
        with path.open("r+b") as file:
            file.write(struct.pack("i", _HEAD))


def _path(folder: Path, kind: str, place: int) -> Path:
    return folder / f"{kind}_{place}.db"


class _File:
    """One file, to which series are appended. Not safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it. Raises OSError where there is no room."""
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
        except (RuntimeError, ValueError, struct.error) as error:  # its worker died during a write
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
        """Return where the value of series ``key`` is: a sequence and the index in it.

        A series that the file does not have is appended. ``child`` is the same for all series of a
        metric with one set of labels, such as a histogram's buckets: room is reserved for all of
        them at once. Raises OSError where there is none.
        """
        place = self._places.get(key)
        if place is None:
            name = key.encode()
            padded = name + b" " * (8 - (len(name) + 4) % 8)
            entry = struct.pack(f"i{len(padded)}sdd", len(name), padded, 0.0, 0.0)
            if self._forgot and (found := self._bytes.find(entry[:-16], _HEAD, self._used)) >= 0:
                place = self._places[key] = found + len(entry) - 16
        if place is None:
            self._make_room(len(entry) if child == self._child else max(len(entry), ROOM_BYTES))
            self._child = child
            self._bytes[self._used : self._used + len(entry)] = entry
            self._set_used(self._used + len(entry))
            place = self._places[key] = self._used - 16
        return cast(MutableSequence[float], self._values), place // 8

    def _make_room(self, room: int) -> None:
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
        """Forget where a series is, to free memory; `cell` searches the file if it comes back."""
        if self._places.pop(key, None) is not None:
            self._forgot = True

    def clear(self) -> None:
        """Empty the file. Whoever holds a cell of it must not write there any more."""
        self._places.clear()
        self._set_used(_HEAD)


class _Store:
    """All values of this process, and its files once it serves. Safe to use from any thread."""

    def __init__(self) -> None:
        self.lock = Lock()
        self._values: list[Value] = []
        self._folder: Path | None = None
        self._place = 0
        self._files: dict[str, _File | None] = {}
        self._ended = self._reported = False

    def begin(self, folder: Path, place: int) -> None:
        """Keep values in the files of this place from now on, those that exist already included."""
        with self.lock:
            self._folder, self._place = folder, place
            for value in self._values:
                value.locate()

    def end(self) -> None:
        """Clear this process' gauges for good, as it ends; counters may still be added to."""
        with self.lock:
            self._ended = True
            for value in self._values:
                value.leave()
            for kind, file in self._files.items():
                if file is not None and kind.startswith("gauge"):
                    file.clear()

    def add(self, value: Value) -> None:
        """Register a new value."""
        with self.lock:
            self._values.append(value)
            value.locate()

    def forget(self, gone: Set[tuple[str, str]]) -> None:
        """Drop the values of these (model, version); what they counted stays in the files."""
        with self.lock:
            kept = []
            for value in self._values:
                if value.version in gone:
                    value.drop(self._files)
                else:
                    kept.append(value)
            self._values = kept

    def cell(self, kind: str, key: str, child: object) -> tuple[MutableSequence[float], int] | None:
        """Return where a series' value is in this process' files, or None.

        None says that this process does not serve yet, that it is a gauge of one that ends, or that
        there is no room, which is logged once.
        """
        if self._folder is None or (self._ended and kind.startswith("gauge")):
            return None
        try:
            if kind not in self._files:
                self._files[kind] = None
                self._files[kind] = _File(_path(self._folder, kind, self._place))
            file = self._files[kind]
            return None if file is None else file.cell(key, child)
        except OSError as error:
            if not self._reported:
                self._reported = True
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
    """The value of one series, as prometheus_client asks for it (`values.ValueClass`).

    A process that does not serve yet, such as the spare one, keeps its values in memory only: a 0
    of its own would be the least of all workers. For the same reason a gauge of which the least
    counts gets into a file only when it is first set.
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
        """The labels `model` and `version`, each None where the series has no such label."""
        of_all = labelvalues[:-1] if "le" in labelnames else labelvalues
        self._child = metric_name, tuple(of_all)
        self._value = 0.0
        self._set = not self._kind.endswith("min")
        self._cells: MutableSequence[float] = [0.0]
        self._index = 0
        self._located = False
        _store.add(self)

    def locate(self) -> None:
        """Move the value into this process' file, once. The caller holds the store's lock."""
        if not self._set or self._located:
            return
        cell = _store.cell(self._kind, self._key, self._child)
        if cell is not None:
            self._located = True
            self._cells, self._index = cell
            if not self._kind.startswith("gauge"):  # a count goes on from its predecessor's
                self._value += self._cells[self._index]
            self._cells[self._index] = self._value

    def leave(self) -> None:
        """Stop writing to the file where this is a gauge. The caller holds the store's lock."""
        if self._kind.startswith("gauge"):
            self._cells, self._index = [0.0], 0

    def drop(self, files: Mapping[str, _File | None]) -> None:
        """Leave the file and forget the place in it. The caller holds the store's lock.

        A gauge leaves a value that changes no sum, least or most over all workers.
        """
        if self._kind.startswith("gauge"):
            self._cells[self._index] = math.inf if self._kind.endswith("min") else 0.0
        file = files.get(self._kind)
        if file is not None:
            file.forget(self._key)

    def inc(self, amount: float) -> None:
        """Add ``amount`` to the value."""
        with _store.lock:
            self._value += amount
            if not self._set:
                self._begin()
            self._cells[self._index] = self._value

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Set the value; ``timestamp`` is for modes of prometheus_client that are not used here."""
        with _store.lock:
            self._value = value
            if not self._set:
                self._begin()
            self._cells[self._index] = value

    def _begin(self) -> None:
        self._set = True
        self.locate()

    def get(self) -> float:
        """Return the value that this process knows."""
        with _store.lock:
            return self._value

    def set_exemplar(self, exemplar: object) -> None:
        """Do nothing: these files hold no exemplars."""

    def get_exemplar(self) -> None:
        """Return None: these files hold no exemplars."""
