"""Every setting of the service, read once from environment variables with the prefix ZOO_.

A bad value stops the start with one line that names the variable; see `load`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

import models
from service.config import paths
from service.config.cpus import available_cores
from service.config.security import AbsolutePath, Exposure
from service.config.version_policy import parse
from service.manifest import VERSION, Precision

PREFIX = "ZOO_"
MEGABYTE = 1_000_000
"""Bytes in the MB of settings."""

SECRET = frozenset({PREFIX + "API_KEYS", PREFIX + "ADMIN_KEYS"})
"""Variables whose value is never shown."""

ProviderName = Literal["tensorrt", "cuda", "openvino", "cpu"]
GPU: frozenset[str] = frozenset({"tensorrt", "cuda"})
"""Providers that compute on an NVIDIA GPU."""


def _split_providers(value: Any) -> Any:
    """Turn `auto` or `cuda,cpu` into a tuple of names; leave what is no text to pydantic."""
    if isinstance(value, str):
        names = [name.strip().lower() for name in value.split(",")]
        return () if names == ["auto"] else tuple(names)
    return value


Providers = Annotated[tuple[ProviderName, ...], BeforeValidator(_split_providers)]
"""An ordered list of execution providers; empty: `auto`."""
GPU_LANES = 2
"""How many batches are on a GPU at a time: one is computed while the next is copied."""
MOST_BATCH = 4096
"""The most crops that a setting may allow in one run of a network."""
MaxBatch = Annotated[int, Field(ge=0, le=MOST_BATCH)]


def _zero_or_a_second(value: int) -> int:
    """Return 0, or at least 1000 ms, since a busy machine has pauses. Raises ValueError."""
    if 0 < value < 1000:
        raise ValueError("it is 0 or at least 1000")
    return value


HangMs = Annotated[int, Field(ge=0, le=3_600_000), AfterValidator(_zero_or_a_second)]


def _policy(text: str) -> str:
    """Return the one spelling of a version policy. Raises ValueError."""
    return str(parse(text))


VersionPolicy = Annotated[str, AfterValidator(_policy)]
"""`all`, `latest`, `latest:N` or a comma list of versions."""


PrecisionName = Precision | Literal["auto"]


class ModelSettings(BaseModel):
    """The settings of one model; where one is None, the common setting holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    providers: Providers | None = None
    max_batch: MaxBatch | None = None
    precision: PrecisionName | None = None
    versions: VersionPolicy | None = None


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)]


class InvalidSettingsError(Exception):
    """A setting cannot be used; the message is one line that names it."""


class Settings(Exposure, BaseSettings):
    """The settings, with defaults that serve the embedded models on every core at hand."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, env_ignore_empty=True)

    models: Path = models.REPOSITORY
    """The model repository: a folder of <name>/<version>/manifest.json."""
    default_model: str = "efficientnet_lite0"
    """The model that answers when a request names none."""
    load: str = "all"
    """Which models are loaded at start: `all`, `used` (the default model alone) or a comma list of
    names. The others are loaded on first use."""
    versions: VersionPolicy = "all"
    """Which versions are served: `all`, `latest`, `latest:N` or a comma list."""
    watch_seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 2.0
    """Seconds between two looks for changes in the repository; 0: it is not watched."""
    management: bool = False
    """Whether clients may load and unload models."""
    state: AbsolutePath = Field(default_factory=paths.default_state)
    """Folder of the desired state: what clients loaded and unloaded, for all workers to follow."""
    model_memory_mb: Annotated[int, Field(ge=0, le=1 << 30)] = 0
    """Most memory that a worker's models may take, by an estimate, in MB; 0: no limit."""
    host: str = "127.0.0.1"
    """The address that both ports bind to; `bentoml serve --host` changes that of HTTP alone."""
    grpc_port: Annotated[int, Field(ge=0, le=65535)] = 3001
    """The port of gRPC; 0: no gRPC."""
    grpc_max_calls: Annotated[int, Field(ge=1, le=1_000_000)] = 1024
    """Most gRPC calls, other than probes, that a worker has open at a time; more are refused."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Processes that serve the port. Each holds its own copy of every model."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """Threads per worker that decode pictures and run networks.

    0: one per core, and `GPU_LANES` more where a GPU is named, since those only wait for it. They
    are not divided by the workers, since all connections may land on one worker.
    """
    preprocessing: Literal["exact", "fast"] = "exact"
    """`exact`: torchvision's pixels; `fast`: large JPEGs are decoded at a fraction of their size,
    which changes the pixels within bounds."""
    providers: Annotated[Providers, NoDecode] = ()
    """`auto`, or an ordered list such as `cuda,cpu`; a provider that is missing is passed over."""
    providers_strict: bool = False
    """Whether a provider that is named and missing stops the start."""
    model_settings: Annotated[dict[str, ModelSettings], NoDecode] = {}
    """The settings of single models by name, as JSON."""
    load_timeout_ms: Annotated[int, Field(ge=0, le=86_400_000)] = 0
    """Milliseconds in which a version must be loaded, or it is refused; 0: five minutes, or an hour
    where TensorRT builds engines."""
    cache: AbsolutePath = Field(default_factory=paths.default_cache)
    """Folder for the engines and timings that TensorRT builds."""
    tensorrt_fp16: bool = False
    """Whether TensorRT may compute fp32 models in half precision."""
    tf32: bool = False
    """Whether GPUs may round the factors of fp32 products to TensorFloat-32."""
    cuda_graphs: bool = True
    """Whether CUDA replays one recorded graph per batch size instead of launching kernels."""
    gpu_memory_bytes: Annotated[int, Field(ge=0, le=1 << 50)] = 0
    """Most bytes of the CUDA arena of one graph of a model, in one worker; 0: no limit."""
    precision: PrecisionName = "auto"
    """The precision of every model; `auto`: that of the first model file in its manifest."""
    max_batch: MaxBatch = 0
    """Most crops in one run of a network; warm-up learns the best size up to it. 0: 8 on a CPU, 64
    on a GPU."""
    max_body_bytes: Annotated[int, Field(ge=1, le=1 << 32)] = 32 * 1024 * 1024
    """Largest request body in bytes."""
    max_bodies_bytes: Annotated[int, Field(ge=1, le=1 << 40)] = 256 * 1024 * 1024
    """Most bytes of request bodies that a worker holds at a time; more are refused with 429."""
    max_pixels: Annotated[int, Field(ge=1, le=1 << 32)] = 1 << 26
    """Most pixels that a picture's header may announce: 67 million. Telephones have sensors of 50
    or 64 million pixels, whose pictures may have a few more (9248 x 6944)."""
    max_pictures: Annotated[int, Field(ge=1, le=4096)] = 32
    """Most pictures in one multipart request."""
    queue_crops: Annotated[int, Field(ge=1, le=1_000_000)] = 1024
    """Most crops that a worker has admitted and not yet answered; more are refused with 429."""
    deadline_ms: Annotated[int, Field(ge=1, le=600_000)] = 30_000
    """Milliseconds until a request's deadline, where it does not ask for a shorter one."""
    max_connections: Annotated[int, Field(ge=1, le=100_000)] = 1024
    """Most open connections of a worker, for HTTP and for gRPC each."""
    idle_ms: Annotated[int, Field(ge=100, le=86_400_000)] = 75_000
    """Milliseconds without a request after which a connection, or a gRPC stream, is ended."""
    slow_ms: Annotated[int, Field(ge=100, le=3_600_000)] = 10_000
    """Milliseconds in which a request's head must arrive, and after which `min_rate` holds."""
    min_rate: Annotated[int, Field(ge=0, le=1 << 30)] = 1000
    """Bytes a second, on average, at which clients must send bodies and take answers; 0: any."""
    drain_ms: Annotated[int, Field(ge=0, le=3_600_000)] = 0
    """Milliseconds, at a stop, in which /readyz says 503 and new work is still answered."""
    grace_ms: Annotated[int, Field(ge=0, le=3_600_000)] = 30_000
    """Milliseconds after `drain_ms` in which accepted work is finished; the rest is given up."""
    hang_ms: HangMs = 30_000
    """Milliseconds of silence of a worker's event loop after which the worker counts as hanging and
    is replaced; 0: never, as a debugger needs."""
    spare: bool = True
    """Whether a process that has imported everything and loaded nothing waits to replace a dead
    worker."""
    log_level: LogLevel = "INFO"
    log_format: Literal["console", "json"] = "console"

    @field_validator("model_settings", mode="before")
    @classmethod
    def _parse_model_settings(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"no JSON: {error}") from None

    @field_validator("load")
    @classmethod
    def _split_load(cls, value: str) -> str:
        return ",".join(name.strip().lower() for name in value.split(","))

    @field_validator("models")
    @classmethod
    def _is_folder(cls, value: Path) -> Path:
        try:
            if value.is_dir() and list(value.iterdir()):
                return value.absolute()
        except OSError as error:
            raise ValueError(f"it cannot be read: {error.strerror}") from None
        raise ValueError(f"there is no folder {value}" if not value.is_dir() else "it is empty")

    def of_model(self, name: str) -> ModelSettings:
        """Return the settings of one model, with the common one in place of each None."""
        own = self.model_settings.get(name, ModelSettings())
        unset = [key for key in ModelSettings.model_fields if getattr(own, key) is None]
        return own.model_copy(update={key: getattr(self, key) for key in unset})

    @property
    def load_all(self) -> bool:
        """Whether every version of every model is loaded at start."""
        return self.load == "all"

    @property
    def loaded_names(self) -> list[str]:
        """The models, besides the default one, that `load` names."""
        return [] if self.load in ("all", "used") else self.load.split(",")

    @property
    def pool_threads(self) -> int:
        """How many threads a worker has that decode pictures and run networks."""
        waiting = 0 if GPU.isdisjoint(self.providers) else GPU_LANES
        return self.threads or available_cores() + waiting


def load() -> Settings:
    """Read the environment. Raises InvalidSettingsError, which names the first bad variable."""
    try:
        settings = Settings()
    except ValidationError as invalid:
        error = invalid.errors()[0]
        name = PREFIX + str(error["loc"][0]).upper()
        value = "***" if name in SECRET else _variable(os.environ, name.removeprefix(PREFIX))
        reason = error["msg"].removeprefix("Value error, ")
        if any(isinstance(part, str) for part in error["loc"][1:]):
            reason = f"{'.'.join(map(str, error['loc'][1:]))}: {reason}"
        raise InvalidSettingsError(f"{name}={_one_line(value)}: {reason}") from None
    if settings.max_bodies_bytes < settings.max_body_bytes:
        raise InvalidSettingsError(
            f"{PREFIX}MAX_BODIES_BYTES={settings.max_bodies_bytes}: one body may already have "
            f"{PREFIX}MAX_BODY_BYTES={settings.max_body_bytes}"
        )
    _check_names(settings)
    return settings


def _check_names(settings: Settings) -> None:
    """Raise InvalidSettingsError where a setting names a model that does not exist, or strictness
    is set without any provider.
    """
    existing = model_names(settings.models)
    if settings.default_model not in existing:
        raise InvalidSettingsError(
            f"{PREFIX}DEFAULT_MODEL={_one_line(settings.default_model)}: there is no such model "
            f"in {settings.models}; there are: {', '.join(existing) or 'none'}"
        )
    for name in settings.loaded_names:
        if name not in existing:
            raise InvalidSettingsError(
                f"{PREFIX}LOAD={_one_line(settings.load)}: there is no model {_one_line(name)!r} "
                f"in {settings.models}; it can be all, used or names of: {', '.join(existing)}"
            )
    text = _one_line(_variable(os.environ, "MODEL_SETTINGS"))
    for name in settings.model_settings:
        if name not in existing:
            raise InvalidSettingsError(
                f"{PREFIX}MODEL_SETTINGS={text}: there is no model {_one_line(name)} in "
                f"{settings.models}"
            )
    if settings.providers_strict and not demanded(settings):
        raise InvalidSettingsError(
            f"{PREFIX}PROVIDERS_STRICT=true: {PREFIX}PROVIDERS=auto demands nothing; name the "
            "providers"
        )


def demanded(settings: Settings) -> list[ProviderName]:
    """Return every provider that a setting names, for all models or for one, in order, once."""
    lists = [settings.providers, *(own.providers or () for own in settings.model_settings.values())]
    return list(dict.fromkeys(name for names in lists for name in names))


def _variable(environment: Mapping[str, str], name: str) -> str:
    """Return the variable of a setting, in whatever case it is spelt; empty where it is not set."""
    return next((environment[key] for key in environment if key.upper() == PREFIX + name), "")


def model_names(folder: Path) -> list[str]:
    """Return the sorted names of a repository's models: folders that hold a version's folder."""
    return sorted(path.name for path in folder.iterdir() if list(version_folders(path)))


def version_folders(model: Path) -> Iterator[Path]:
    """Yield the version folders of a model's folder; none where it is hidden or unreadable."""
    if model.name.startswith((".", "_")):
        return
    with suppress(OSError):  # no folder, or not ours to read
        for child in model.iterdir():
            if VERSION.fullmatch(child.name) and child.is_dir():
                yield child


def _one_line(text: str) -> str:
    return text if text.isprintable() else ascii(text)


def unknown_variables() -> list[str]:
    """Return the variables with our prefix that are no setting: most likely they are misspelt."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    names = (name for name in os.environ if name.upper().startswith(PREFIX))
    return sorted(name for name in names if name.upper() not in known)
