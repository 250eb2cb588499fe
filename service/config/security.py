"""The settings of keys, TLS, browser origins and hosts, which `settings` includes.

No message about a bad value holds a key.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable
from ipaddress import ip_network
from pathlib import Path
from stat import S_ISREG
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode

MAX_KEYS = 256
"""The most keys of each kind. The key of a request is compared with all of them."""
MAX_KEY_LENGTH = 256
_MAX_KEY_FILE_BYTES = 256 * 1024
_MAX_ORIGINS = 64
_KEY = re.compile(rf"[!-~]{{16,{MAX_KEY_LENGTH}}}")
_MAX_HOSTS = 64
_NAME = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_-]*)(?:\.[a-z0-9_-]+)*")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9._~%:\[\]-]+")


def _split(value: Any) -> Any:
    """Split a comma list into a tuple; leave what is no text to pydantic."""
    return tuple(item.strip() for item in value.split(",")) if isinstance(value, str) else value


def absolute(path: Path) -> Path:
    """Return a path that does not depend on the working directory. Raises ValueError."""
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:  # `~` of a user without a home
        raise ValueError(str(error)) from None


def _with_keys(path: Path) -> Path:
    read_keys(path)
    return path


AbsolutePath = Annotated[Path, AfterValidator(absolute)]
KeysFile = Annotated[AbsolutePath, AfterValidator(_with_keys)]


class Exposure(BaseSettings):
    """Who may reach the service. By default it has no keys, no TLS and no other origins."""

    api_keys: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split)] = ()
    """Keys as a comma list, one of which a request must show; without any, none is asked for."""
    api_keys_file: KeysFile | None = None
    """A file with more such keys, one per line; it is read again when it changes."""
    admin_keys: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split)] = ()
    """Keys that may also manage the models."""
    admin_keys_file: KeysFile | None = None
    """A file with more of those."""
    tls_cert: AbsolutePath | None = None
    """The certificate of both ports with its chain, a PEM file."""
    tls_key: AbsolutePath | None = Field(default=None, validate_default=True)
    """The private key of that certificate, a PEM file without a passphrase."""
    tls_client_ca: AbsolutePath | None = None
    """A PEM file of certificates, one of which must have signed each client's certificate."""
    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = ()
    """Origins whose pages may call the service from a browser, as a comma list, or `*`."""

    allowed_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = ()
    """Hosts that requests may name, as a comma list; `*.zoo.example` allows all below that name,
    `*` all. Without any, every host is allowed, but models are managed by this machine's own name
    or an address alone."""

    @field_validator("api_keys", "admin_keys")
    @classmethod
    def _are_keys(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        checked_keys(key.get_secret_value() for key in value)
        return value

    @field_validator("tls_cert", "tls_client_ca")
    @classmethod
    def _holds_certificates(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is None:
            return None
        _read(value)
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(value)
        except ssl.SSLError:
            raise ValueError("it holds no certificate in PEM") from None
        if info.field_name == "tls_client_ca" and info.data.get("tls_cert") is None:
            raise ValueError("it needs ZOO_TLS_CERT and ZOO_TLS_KEY")
        return value

    @field_validator("tls_key")
    @classmethod
    def _belongs_to_the_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        certificate = info.data.get("tls_cert")
        if value is None:
            if certificate is not None:
                raise ValueError("ZOO_TLS_CERT is set and needs its key")
            return None
        _read(value)
        if certificate is None:
            raise ValueError("it needs ZOO_TLS_CERT")
        _check_pair(certificate, value)
        return value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        origins = tuple(origin.lower() for origin in value)
        if "*" in origins:
            if len(origins) > 1:
                raise ValueError("`*` stands alone")
        elif len(origins) > _MAX_ORIGINS:
            raise ValueError(f"it has more than {_MAX_ORIGINS} origins")
        elif not all(map(_ORIGIN.fullmatch, origins)):
            raise ValueError("an origin is written https://host or https://host:port, with no path")
        return origins

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) > _MAX_HOSTS:
            raise ValueError(f"it has more than {_MAX_HOSTS} hosts")
        return tuple(map(_host, value))

    @property
    def has_api_keys(self) -> bool:
        """Whether requests must show a key."""
        return bool(self.api_keys or self.api_keys_file)

    @property
    def has_admin_keys(self) -> bool:
        """Whether the management of models asks for a key of its own."""
        return bool(self.admin_keys or self.admin_keys_file)


def _host(text: str) -> str:
    """Return a host's name, address or network as it is compared. Raises ValueError."""
    host = text.lower().removesuffix(".")
    try:
        network = ip_network(host.removeprefix("[").removesuffix("]"), strict=False)
    except ValueError:
        if host == "*" or _NAME.fullmatch(host):
            return host
        raise ValueError(
            "a host is written zoo.example, *.zoo.example, 192.0.2.7, 192.0.2.0/24 or *, without "
            "scheme, port or path"
        ) from None
    return str(network) if "/" in host else str(network.network_address)


def checked_keys(keys: Iterable[str]) -> list[str]:
    """Return the same keys as a list.

    Raises ValueError where there are too many, or one cannot be a key; its text holds no key.
    """
    found = list(keys)
    if len(found) > MAX_KEYS:
        raise ValueError(f"it has more than {MAX_KEYS} keys")
    for number, key in enumerate(found, start=1):
        if not _KEY.fullmatch(key):
            raise ValueError(
                f"key {number} is none: a key has 16 to {MAX_KEY_LENGTH} printable ASCII "
                "characters and no spaces"
            )
    return found


def read_keys(path: Path) -> list[str]:
    """Read the keys of a file, one per line; empty lines and those that begin with # are skipped.

    Raises ValueError where the file cannot be read or holds no keys; its text holds no key.
    """
    lines = (line.strip() for line in _read(path).decode("utf-8", "replace").splitlines())
    keys = checked_keys(line for line in lines if line and not line.startswith("#"))
    if not keys:
        raise ValueError("it holds no key")
    return keys


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if not S_ISREG(status.st_mode):  # reading a pipe would wait
            raise ValueError("it is no file")
        if status.st_size > _MAX_KEY_FILE_BYTES:
            raise ValueError(f"it has more than {_MAX_KEY_FILE_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from None


def _check_pair(certificate: Path, key: Path) -> None:
    """Raise ValueError unless the key is the certificate's and has no passphrase."""
    try:
        # an empty passphrase, or OpenSSL asks for one at the terminal
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError("it is not the key of ZOO_TLS_CERT") from None
        if error.reason and error.reason.endswith(("_TOO_SMALL", "_TOO_WEAK")):
            words = error.reason.replace("_", " ").lower()
            raise ValueError(f"OpenSSL refuses its certificate: {words}") from None
        raise ValueError("it holds no private key in PEM without a passphrase") from None
