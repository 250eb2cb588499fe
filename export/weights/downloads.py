"""Weights that a library offers for download, through its own cache and with its own checksum.

Where there is no network, one line says what to fetch and where to put it, at once: the address
is tried before a library's downloader, with its retries, is asked.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import urllib.error
import urllib.request
import zipfile
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from export.errors import WeightsMismatch, WeightsUnavailable
from export.spec import Licence, WeightsSource
from service.manifest import Weights, sha256_of

_WHOLE = re.compile(r"[0-9a-f]{64}")
_TIMEOUT = 10
"""Seconds without a sign of life from the server."""


@dataclass(frozen=True)
class LibraryDownload(WeightsSource):
    """Weights that a library offers for download: fetched once, then found in its cache."""

    tag: str
    """The library and its name for the weights."""
    url: str
    spdx: str
    notice: str
    same_order: bool = False

    @property
    def words(self) -> str:
        return f"download: {self.tag}"

    @property
    def file(self) -> str:
        """The name of the file a person would pass with ``--weights``."""
        return self.url.rsplit("/", 1)[-1]

    def locate(self, name: str) -> Path:
        cached = self.cached()
        if cached.is_file():
            self.check(cached)
            return cached
        try:
            with _impatient():
                _reach(self.url)
                return self.fetch()
        except Exception as error:
            # urllib, httpx and the hubs have no common base but Exception
            raise WeightsUnavailable(
                f"the weights of {name} cannot be downloaded ({_reason(error)}): fetch {self.url} "
                f"({self.tag}) and put it at {cached}, or pass it with --weights {self.file}; "
                "--weights random builds it untrained"
            ) from error

    @abstractmethod
    def cached(self) -> Path:
        """Where the library keeps the file; it may not be there."""

    @abstractmethod
    def check(self, file: Path) -> None:
        """Raise WeightsMismatch where a cached file is not the one that was offered."""

    @abstractmethod
    def fetch(self) -> Path:
        """Download the file into the cache, with a progress bar, and check it."""

    def record(self, file: Path) -> Weights:
        return Weights(
            source="library",
            origin=self.tag,
            url=self.url,
            sha256=sha256_of(file),
            licence=self.spdx,
        )

    def licence(self) -> Licence:
        return Licence(self.spdx, (("LICENSE", self.notice),))


@dataclass(frozen=True)
class HubDownload(LibraryDownload):
    """A file in the cache of ``torch.hub``, named by the first digits of its SHA-256."""

    hashed: bool = True
    """False where the name has no digits of the SHA-256, so that nothing tells whether a file in
    the cache is the one that was offered."""

    @property
    def verified(self) -> bool:
        return self.hashed

    @property
    def digits(self) -> str:
        """The first digits of the SHA-256, as the name has them."""
        return self.url.rsplit("-", 1)[-1].removesuffix(".pth")

    def cached(self) -> Path:
        from torch import hub

        return Path(hub.get_dir(), "checkpoints", self.file)

    def fetch(self) -> Path:
        from torch import hub

        target = self.cached()
        target.parent.mkdir(parents=True, exist_ok=True)
        prefix = self.digits if self.hashed else None
        hub.download_url_to_file(self.url, str(target), hash_prefix=prefix, progress=True)
        return target

    def check(self, file: Path) -> None:
        if self.hashed and not sha256_of(file).startswith(self.digits):
            raise _other(file, self.tag, self.digits)

    def recognise(self, file: Path) -> Weights | None:
        known = self.hashed and sha256_of(file).startswith(self.digits)
        return self.record(file) if known else None


@dataclass(frozen=True)
class HuggingFaceDownload(LibraryDownload):
    """``model.safetensors`` of a repository of timm's on the Hugging Face hub."""

    repository: str = ""

    def cached(self) -> Path:
        from huggingface_hub import constants, try_to_load_from_cache

        found = try_to_load_from_cache(self.repository, self.file)
        folder = f"models--{self.repository.replace('/', '--')}"
        missing = Path(constants.HF_HUB_CACHE, folder, self.file)
        return Path(found) if isinstance(found, str) else missing

    def fetch(self) -> Path:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(self.repository, self.file))

    def check(self, file: Path) -> None:
        # the cache keeps large files under their SHA-256, and links to them
        name = file.resolve().name
        if _WHOLE.fullmatch(name) and sha256_of(file) != name:
            raise _other(file, self.tag, name[:8])


@dataclass(frozen=True)
class PytorchcvDownload(LibraryDownload):
    """A zipped file of pytorchcv's releases, in its store, known by its SHA-1."""

    sha1: str = ""

    @property
    def file(self) -> str:
        return super().file.removesuffix(".zip")

    def cached(self) -> Path:
        return Path.home() / ".torch" / "models" / self.file

    def fetch(self) -> Path:
        from torch import hub

        target = self.cached()
        target.parent.mkdir(parents=True, exist_ok=True)
        archive = target.with_name(f"{self.file}.zip")
        try:
            hub.download_url_to_file(self.url, str(archive), progress=True)
            with zipfile.ZipFile(archive) as opened:
                content = opened.read(self.file)
        finally:
            archive.unlink(missing_ok=True)
        if hashlib.sha1(content, usedforsecurity=False).hexdigest() != self.sha1:
            raise RuntimeError("the file has another SHA-1 than pytorchcv says")
        target.write_bytes(content)
        return target

    def check(self, file: Path) -> None:
        if _sha1_of(file) != self.sha1:
            raise _other(file, self.tag, self.sha1[:8])

    def recognise(self, file: Path) -> Weights | None:
        return self.record(file) if _sha1_of(file) == self.sha1 else None


def _sha1_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha1").hexdigest()


def _other(file: Path, tag: str, digits: str) -> WeightsMismatch:
    return WeightsMismatch(
        f"{file} is not {tag}, whose digest begins with {digits}: delete it to fetch it again"
    )


def _reach(url: str) -> None:
    """Ask for the headers alone. Raises what urllib raises."""
    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "export"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=_TIMEOUT):  # noqa: S310
        pass


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """Sockets that give up: torch.hub sets no timeout of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    words = str(cause).strip().split("\n")[0][:120]
    return words or type(cause).__name__
