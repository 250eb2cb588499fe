"""Every knob of the service, read once from environment variables with the prefix ZOO_.

A bad value stops the start with one line that names the variable; see `load`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

import models
from service import simd
from service.engine.cores import available_cores
from service.preprocessing import Mode

PREFIX = "ZOO_"

_VERSION = re.compile(r"[1-9][0-9]{0,8}")

ProviderName = Literal["tensorrt", "cuda", "openvino", "cpu"]


class InvalidSettingsError(Exception):
    """A setting cannot be used; the message is one line that names it."""


class Settings(BaseSettings):
    """The settings, with defaults that serve the embedded models on every core at hand."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, env_ignore_empty=True)

    models: Path = models.REPOSITORY
    """The model repository: a folder of <name>/<version>/manifest.json."""
    default_model: str = "efficientnet_lite0"
    """The model that answers when a request names none."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Processes that serve the port. Each holds its own copy of every model."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """Threads per worker that run the network, one batch each; 0: cores / workers."""
    decode_threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """Threads per worker that decode and crop pictures; 0: as many as `threads`."""
    preprocessing: Mode = "exact"
    """`exact`: torchvision's pixels; `fast`: scaled JPEG decoding and SIMD, within bounds."""
    providers: Annotated[tuple[ProviderName, ...], NoDecode] = ()
    """`auto`, or an ordered list such as `cuda,cpu`; what is missing is passed over."""
    max_batch: Annotated[int, Field(ge=0, le=4096)] = 0
    """Most crops in one run of the network; 0: 1 on a CPU, 32 on a GPU."""
    max_body_bytes: Annotated[int, Field(ge=1, le=1 << 32)] = 32 * 1024 * 1024
    """Largest request body in bytes."""
    max_bodies_bytes: Annotated[int, Field(ge=1, le=1 << 40)] = 256 * 1024 * 1024
    """Most bytes of all request bodies that a worker holds at a time; beyond that: 429."""
    max_pixels: Annotated[int, Field(ge=1, le=1 << 32)] = 50_000_000
    """Most pixels a picture may announce."""
    max_pictures: Annotated[int, Field(ge=1, le=4096)] = 32
    """Most pictures in one multipart request."""
    queue_crops: Annotated[int, Field(ge=1, le=1_000_000)] = 1024
    """Most crops per worker that are accepted and not yet answered; beyond that: 429."""
    deadline_ms: Annotated[int, Field(ge=1, le=600_000)] = 30_000
    """A request's deadline where it does not ask for a shorter one."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["console", "json"] = "console"

    @field_validator("providers", mode="before")
    @classmethod
    def _split_providers(cls, value: Any) -> Any:
        if isinstance(value, str):
            names = [name.strip().lower() for name in value.split(",")]
            return () if names == ["auto"] else tuple(names)
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @field_validator("models")
    @classmethod
    def _is_folder(cls, value: Path) -> Path:
        if not value.is_dir():
            raise ValueError(f"there is no folder {value}")
        return value.resolve()

    @property
    def run_threads(self) -> int:
        """How many batches run at once in one worker."""
        return self.threads or max(1, available_cores() // self.workers)

    @property
    def picture_threads(self) -> int:
        """How many pictures are decoded at once in one worker."""
        return self.decode_threads or self.run_threads


def load() -> Settings:
    """Read the environment. Raises InvalidSettingsError naming the first bad variable."""
    try:
        settings = Settings()
    except ValidationError as invalid:
        error = invalid.errors()[0]
        name = PREFIX + str(error["loc"][0]).upper()
        given = next((os.environ[key] for key in os.environ if key.upper() == name), "")
        reason = error["msg"].removeprefix("Value error, ")
        raise InvalidSettingsError(f"{name}={_one_line(given)}: {reason}") from None
    if settings.max_bodies_bytes < settings.max_body_bytes:
        raise InvalidSettingsError(
            f"{PREFIX}MAX_BODIES_BYTES={settings.max_bodies_bytes}: one body may already have "
            f"{PREFIX}MAX_BODY_BYTES={settings.max_body_bytes}"
        )
    if settings.preprocessing == "fast" and not simd.available():
        raise InvalidSettingsError(
            f"{PREFIX}PREPROCESSING=fast: the package cykooz-resizer is not installed (it comes "
            "with the extra `fast`)"
        )
    there = model_names(settings.models)
    if settings.default_model not in there:
        raise InvalidSettingsError(
            f"{PREFIX}DEFAULT_MODEL={_one_line(settings.default_model)}: there is no such model "
            f"in {settings.models}; there are: {', '.join(there) or 'none'}"
        )
    return settings


def model_names(folder: Path) -> list[str]:
    """The models in a repository: folders that hold a folder with a version's number."""
    return sorted(path.name for path in folder.iterdir() if list(version_folders(path)))


def version_folders(model: Path) -> Iterator[Path]:
    """The version folders of a model's folder; none where it cannot be read or is hidden."""
    if model.name.startswith((".", "_")):
        return
    with suppress(OSError):  # no folder, or not ours to read
        for child in model.iterdir():
            if _VERSION.fullmatch(child.name) and child.is_dir():
                yield child


def _one_line(text: str) -> str:
    return text if text.isprintable() else ascii(text)


def unknown_variables() -> list[str]:
    """Variables with our prefix that are no setting: most likely misspelt."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    names = (name for name in os.environ if name.upper().startswith(PREFIX))
    return sorted(name for name in names if name.upper() not in known)
