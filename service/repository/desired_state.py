"""Keeps on disk what operators asked for, so that all workers of a service can follow it.

The worker that gets an operator's call writes it to one file. Every worker reads that file and
writes to a file of its own how far it has come. The state belongs to one run of a service: its
folder is named after the process that started the workers, so a worker that is started again finds
it, and a service that is started again begins without it.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
import socket
import stat
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from service.config import version_policy as policy
from service.config.processes import alone, identity, lives
from service.config.settings import VersionPolicy
from service.manifest import ModelName

logger = logging.getLogger("zoo.desired")

FILE_NAME = "desired.json"
MOST_REPORTED = 1000
"""How many unusable files are remembered as reported in the log; then all are forgotten."""
MOST_BYTES = 1 << 20
"""A larger file is not read: thousands of models take a tenth of this."""
MOST_GENERATION = 1 << 53
"""A file that holds this generation or a later one was not written by this service."""
_OWNER = re.compile(r"[0-9]+-[0-9]+")
_WORKER = re.compile(rf"({_OWNER.pattern})-[0-9a-f]{{8}}")
"""The name of a worker's file: its process and a random part."""

Generation = Annotated[int, Field(ge=0, lt=MOST_GENERATION)]


class Wish(BaseModel):
    """What an operator last asked for about one model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    generation: Generation
    """The generation of the state in which this wish first stood."""
    unloaded: bool
    versions: VersionPolicy | None = None
    """A version policy that takes the place of the one in the settings."""

    @property
    def policy(self) -> policy.Policy | None:
        """``versions``, parsed."""
        return None if self.versions is None else policy.parse(self.versions)


class Desired(BaseModel):
    """All that operators asked for since the service began."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    generation: Generation = 0
    """How many calls of operators were written down."""
    models: dict[ModelName, Wish] = {}


class Reached(NamedTuple):
    """How far a worker has come with a model: the last wish it carried out, and why it failed."""

    generation: Generation
    failure: str | None


_Content = TypeAdapter(dict[str, Reached])
"""Validates a worker's file: model name to what was reached."""


class DesiredState:
    """The desired state as one worker reads and writes it. The methods block on small files."""

    def __init__(self, folder: Path) -> None:
        """Register this process as a worker in ``folder``, and delete states of ended services.

        Raises OSError where the folder cannot be written.
        """
        owner = identity(os.getppid())
        self._folder = folder / _run_name(owner)
        self._workers = self._folder / "workers"
        self._workers.mkdir(parents=True, exist_ok=True)
        self._file = self._folder / FILE_NAME
        self._own = self._workers / f"{identity(os.getpid())}-{uuid.uuid4().hex[:8]}.json"
        self._turn = threading.Lock()
        self._reached: dict[str, Reached] = {}
        self._stamp: tuple[int, ...] | None = None
        self._reported: dict[str, tuple[int, ...] | None] = {}
        """The files that the log has called unusable, each with its stamp at that time."""
        self._write(self._own, "{}")
        for other in folder.glob(f"{_machine()}-*"):
            match = _OWNER.fullmatch(other.name.removeprefix(f"{_machine()}-"))
            if match and not lives(match[0]):
                shutil.rmtree(other, ignore_errors=True)

    def close(self) -> None:
        """Delete this worker's file: nobody waits for this worker any more."""
        with suppress(OSError):
            self._own.unlink()

    def changed(self) -> bool:
        """Whether the state has been written since the last `read`."""
        return self._look() != self._stamp

    def read(self) -> Desired:
        """Return the state as `current` does, and remember it as seen for `changed`."""
        self._stamp = self._look()
        return self.current()

    def current(self) -> Desired:
        """Return the state; an empty one where the file cannot be read or is not valid."""
        try:
            return self._stored()
        except OSError as error:
            self._ignore(self._file, error)
            return Desired()

    def _stored(self) -> Desired:
        """Return the state; an empty one where the file is missing or not valid. Raises OSError."""
        try:
            return Desired.model_validate_json(_read(self._file))
        except FileNotFoundError:
            return Desired()
        except ValidationError as error:
            self._ignore(self._file, error)
            return Desired()

    def ask(self, name: str, *, unloaded: bool, versions: str | None = None) -> int:
        """Write down what an operator asks for and return its generation. Raises OSError."""
        with alone(self._folder / "lock"):
            before = self._stored()
            # if the file was lost, the new generation must still be later than any reached
            number = 1 + max([before.generation, *self._generations()])
            wish = Wish(generation=number, unloaded=unloaded, versions=versions)
            after = Desired(generation=number, models={**before.models, name: wish})
            self._write(self._file, after.model_dump_json())
        return number

    def reach(self, name: str, reached: Reached) -> None:
        """Write down how far this worker has come with a model. Raises OSError."""
        with self._turn:
            self._reached[name] = reached
            self._write(self._own, json.dumps(self._reached))

    def reached(self, name: str) -> list[Reached]:
        """Return how far each living worker has come with a model; generation 0: not begun."""
        return [
            content.get(name, Reached(0, None))
            for path in self._workers.glob("*.json")
            if (content := self._of_worker(path)) is not None
        ]

    def _generations(self) -> Iterator[int]:
        """Yield every generation that a living worker has reached with some model."""
        for path in self._workers.glob("*.json"):
            for generation, _ in (self._of_worker(path) or {}).values():
                yield generation

    def _of_worker(self, path: Path) -> dict[str, Reached] | None:
        """Return what a worker wrote; None where the worker is dead or its file not valid.

        The file of a dead worker is deleted.
        """
        match = _WORKER.fullmatch(path.stem)
        if match is None:
            self._ignore(path, "no worker's file is called so")
            return None
        if not lives(match[1]):
            with suppress(OSError):
                path.unlink()
            return None
        try:
            return _Content.validate_json(_read(path))
        except FileNotFoundError:  # the worker has stopped meanwhile
            return None
        except (OSError, ValidationError) as error:
            self._ignore(path, error)
            return None

    def _ignore(self, path: Path, why: Exception | str) -> None:
        """Log once that a file is not used, and again after it has changed."""
        stamp = _stamp(path)
        if self._reported.get(path.name, ()) != stamp:
            if len(self._reported) >= MOST_REPORTED:
                self._reported.clear()
            self._reported[path.name] = stamp
            words = str(why).partition("\n")[0]
            logger.error("%s cannot be used, it is ignored: %s", path, words)

    def _look(self) -> tuple[int, ...] | None:
        return _stamp(self._file)

    def _write(self, path: Path, text: str) -> None:
        """Replace a file in one step, so that nobody reads half of it. Raises OSError."""
        draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        try:
            draft.write_text(text)
            draft.replace(path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise


def _stamp(path: Path) -> tuple[int, ...] | None:
    """Return numbers that differ when the file has changed; None where there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _read(path: Path) -> bytes:
    """Return a file's content. Raises OSError, also for what is not regular or too large."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # opening a pipe might block for ever
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    if status.st_size > MOST_BYTES:
        raise OSError(errno.EFBIG, f"it has more than {MOST_BYTES} bytes", str(path))
    return path.read_bytes()


def _machine() -> str:
    """Name this boot of this host: on others, process ids belong to other processes."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        return f"{_name(socket.gethostname())}-{boot}"
    return _name(socket.gethostname())


def _name(text: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in text)[:64]


def _run_name(owner: str) -> str:
    return f"{_machine()}-{owner}"
