"""Checks keys: who may ask for what, the same for every transport."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from time import monotonic

from pydantic import SecretStr

from service.config.security import MAX_KEY_LENGTH, read_keys
from service.config.settings import PREFIX, Settings
from service.errors import Forbidden, Unauthorized, ZooError
from service.telemetry import metrics

logger = logging.getLogger("zoo.keys")

LOOK_SECONDS = 1.0
"""A file of keys is checked for changes at most this often."""


class Need(Enum):
    """Which key a request needs."""

    NOTHING = "nothing"
    """For probes and the description of the service."""
    KEY = "key"
    ADMIN = "admin"
    """For requests that change or list which models are served."""


class Access:
    """Decides whether a request may pass. An administrator's key also opens everything else."""

    def __init__(self, settings: Settings) -> None:
        self._asks = settings.has_api_keys
        self._keys = _Keys(settings.api_keys, settings.api_keys_file, "API_KEYS_FILE")
        self._admin = _Keys(settings.admin_keys, settings.admin_keys_file, "ADMIN_KEYS_FILE")

    @classmethod
    def of(cls, settings: Settings) -> Access | None:
        """Return the rule of these settings, or None where they set no key: nothing is checked."""
        return cls(settings) if settings.has_api_keys or settings.has_admin_keys else None

    def check(self, need: Need, authorization: str | None, transport: str) -> None:
        """Return if a request shows the key that it ``need``s.

        ``authorization`` is the header or metadata of that name (RFC 6750, section 2.1),
        ``transport`` a label of the metric of refusals. Raises Unauthorized where the key is
        missing or unknown, Forbidden where an administrator's is needed and it is not one.
        """
        try:
            self._check(need, authorization)
        except ZooError as error:
            metrics.ACCESS_REFUSALS.labels(transport, error.code).inc()
            raise

    def _check(self, need: Need, authorization: str | None) -> None:
        as_admin = need is Need.ADMIN
        if need is Need.NOTHING or not (self._asks or as_admin):
            return
        digest = _digest(_bearer(authorization))
        known, admin = self._keys.hold(digest), self._admin.hold(digest)
        if not (known or admin):
            raise Unauthorized("the key is not known")
        if as_admin and not admin:
            raise Forbidden("this needs an administrator's key")


def _bearer(authorization: str | None) -> str:
    if not authorization:
        raise Unauthorized("a key is needed: Authorization: Bearer KEY")
    scheme, _, key = authorization.partition(" ")
    key = key.strip(" ")
    if scheme.lower() != "bearer" or not key:
        raise Unauthorized("a key is shown as Authorization: Bearer KEY")
    if len(key) > MAX_KEY_LENGTH:
        raise Unauthorized("the key is not known")
    return key


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


class _Keys:
    """The SHA-256 digests of keys from a setting and a file.

    They follow the file. If it becomes unreadable, that is logged and the old keys stay.
    """

    def __init__(self, keys: Iterable[SecretStr], path: Path | None, setting: str) -> None:
        self._fixed = tuple(_digest(key.get_secret_value()) for key in keys)
        self._digests = self._fixed
        self._path = path
        self._setting = PREFIX + setting
        self._seen: tuple[int, ...] | None = None
        self._look_again = 0.0
        if path is not None:
            self._follow(path)

    def hold(self, digest: bytes) -> bool:
        """Whether this is the digest of a key. An unknown key takes as long as a known one."""
        if self._path is not None and monotonic() >= self._look_again:
            self._follow(self._path)
        found = False
        for known in self._digests:
            found |= hmac.compare_digest(known, digest)
        return found

    def _follow(self, path: Path) -> None:
        self._look_again = monotonic() + LOOK_SECONDS
        seen = _state(path)
        if seen == self._seen:
            return
        at_start, self._seen = self._seen is None, seen
        try:
            keys = read_keys(path)
        except ValueError as error:
            logger.error("%s: the keys from before stay: %s", self._setting, error)
            return
        self._digests = (*self._fixed, *map(_digest, keys))
        if not at_start:
            logger.info("%s: it changed, and holds %d keys now", self._setting, len(keys))


def _state(path: Path) -> tuple[int, ...]:
    """Return numbers that change with the file; empty where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
