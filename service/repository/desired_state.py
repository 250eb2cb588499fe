"""The desired state of the models, on disk: what operators asked for, for all workers of a service.

One worker gets the call and writes it down; each worker follows the file and writes down how far
it has come. The state belongs to one run of a service: it lies in a folder that is named after the
process that started the workers, so a worker that is started anew finds it, a service does not.
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

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from service.config import version_policy as policy
from service.config.processes import alone, identity, lives
from service.manifest import ModelName

logger = logging.getLogger("zoo.desired")

FILE_NAME = "desired.json"
MOST_SAID = 1000
"""Files that the log is remembered to have spoken of."""
MOST_BYTES = 1 << 20
"""Of a file that is read: thousands of models are a tenth of it."""
MOST_GENERATION = 1 << 53
"""What is more was written by nobody here."""
_OWNER = re.compile(r"[0-9]+-[0-9]+")
_WORKER = re.compile(rf"({_OWNER.pattern})-[0-9a-f]{{8}}")
"""How a worker's file is called: which process, and a random part."""

Generation = Annotated[int, Field(ge=0, lt=MOST_GENERATION)]


class Wish(BaseModel):
    """What an operator last asked for, of one model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    generation: Generation
    """Of the file that said it first."""
    unloaded: bool
    versions: str | None = None
    """A policy instead of that of the settings."""

    @field_validator("versions")
    @classmethod
    def _is_policy(cls, versions: str | None) -> str | None:
        if versions is not None:
            policy.parse(versions)
        return versions

    @property
    def policy(self) -> policy.Policy | None:
        """The policy, read."""
        return None if self.versions is None else policy.parse(self.versions)


class Desired(BaseModel):
    """All that operators asked for since the service began."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    generation: Generation = 0
    """Counts the calls."""
    models: dict[ModelName, Wish] = {}


class Reached(NamedTuple):
    """How far a worker has come with a model."""

    generation: Generation
    failure: str | None


_Content = TypeAdapter(dict[str, Reached])
"""Of a worker's file."""


class DesiredState:
    """The folder of this run of the service. Its methods block for a moment."""

    def __init__(self, folder: Path) -> None:
        """Make the folder and take part as a worker. Raises OSError."""
        owner = identity(os.getppid())
        self._folder = folder / _run_name(owner)
        self._workers = self._folder / "workers"
        self._workers.mkdir(parents=True, exist_ok=True)
        self._file = self._folder / FILE_NAME
        self._own = self._workers / f"{identity(os.getpid())}-{uuid.uuid4().hex[:8]}.json"
        self._turn = threading.Lock()
        self._reached: dict[str, Reached] = {}
        self._stamp: tuple[int, ...] | None = None
        self._said: dict[str, tuple[int, ...] | None] = {}
        """Which files the log has called unusable, and what they were then."""
        self._write(self._own, "{}")
        for other in folder.glob(f"{_machine()}-*"):
            match = _OWNER.fullmatch(other.name.removeprefix(f"{_machine()}-"))
            if match and not lives(match[0]):
                shutil.rmtree(other, ignore_errors=True)

    def close(self) -> None:
        """Take part no more."""
        with suppress(OSError):
            self._own.unlink()

    def changed(self) -> bool:
        """Whether the file is another than that of the last `read`."""
        return self._look() != self._stamp

    def read(self) -> Desired:
        """What is asked for now, until it has `changed`."""
        self._stamp = self._look()
        return self.current()

    def current(self) -> Desired:
        """What is asked for now; nothing where the file cannot be read or used."""
        try:
            return self._stored()
        except OSError as error:
            self._ignore(self._file, error)
            return Desired()

    def _stored(self) -> Desired:
        """What is asked for now; nothing where that is not ours. Raises OSError."""
        try:
            return Desired.model_validate_json(_read(self._file))
        except FileNotFoundError:
            return Desired()
        except ValidationError as error:
            self._ignore(self._file, error)
            return Desired()

    def ask(self, name: str, *, unloaded: bool, versions: str | None = None) -> int:
        """Write down what an operator asks for; the generation that says it. Raises OSError."""
        with alone(self._folder / "lock"):
            before = self._stored()
            # the file may have been lost: what workers have reached is older all the same
            number = 1 + max([before.generation, *self._generations()])
            wish = Wish(generation=number, unloaded=unloaded, versions=versions)
            after = Desired(generation=number, models={**before.models, name: wish})
            self._write(self._file, after.model_dump_json())
        return number

    def reach(self, name: str, reached: Reached) -> None:
        """Write down how far this worker is with a model. Raises OSError."""
        with self._turn:
            self._reached[name] = reached
            self._write(self._own, json.dumps(self._reached))

    def reached(self, name: str) -> list[Reached]:
        """How far each living worker is with a model; generation 0 where it has not begun."""
        return [
            content.get(name, Reached(0, None))
            for path in self._workers.glob("*.json")
            if (content := self._of_worker(path)) is not None
        ]

    def _generations(self) -> Iterator[int]:
        """Every generation that a living worker has reached with some model."""
        for path in self._workers.glob("*.json"):
            for generation, _ in (self._of_worker(path) or {}).values():
                yield generation

    def _of_worker(self, path: Path) -> dict[str, Reached] | None:
        """What a worker wrote; None where it does not live, or where no worker wrote it."""
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
        except FileNotFoundError:  # it stopped right now
            return None
        except (OSError, ValidationError) as error:
            self._ignore(path, error)
            return None

    def _ignore(self, path: Path, why: Exception | str) -> None:
        """Say once of a file that it is not used, and again when it has changed."""
        stamp = _stamp(path)
        if self._said.get(path.name, ()) != stamp:
            if len(self._said) >= MOST_SAID:
                self._said.clear()
            self._said[path.name] = stamp
            words = str(why).partition("\n")[0]
            logger.error("%s cannot be used, it is ignored: %s", path, words)

    def _look(self) -> tuple[int, ...] | None:
        return _stamp(self._file)

    def _write(self, path: Path, text: str) -> None:
        """In one step: nobody reads half of it."""
        draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        try:
            draft.write_text(text)
            draft.replace(path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What changes with a file; None where there is none."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_ino, about.st_mtime_ns, about.st_size


def _read(path: Path) -> bytes:
    """A file's content. Raises OSError, also where it is no file of ours by kind or by size."""
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):  # to open a pipe might take for ever
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    if about.st_size > MOST_BYTES:
        raise OSError(errno.EFBIG, f"it has more than {MOST_BYTES} bytes", str(path))
    return path.read_bytes()


def _machine() -> str:
    """This host, since it was started: elsewhere the same process ids are others."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        return f"{_name(socket.gethostname())}-{boot}"
    return _name(socket.gethostname())


def _name(text: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in text)[:64]


def _run_name(owner: str) -> str:
    return f"{_machine()}-{owner}"
