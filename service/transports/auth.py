"""Who may ask for what: keys, checked the same way whatever brought the request."""

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
"""How often a file of keys is looked at, at most."""


class Need(Enum):
    """What a request must show."""

    NOTHING = "nothing"
    """A probe, or the description of the service."""
    KEY = "key"
    ADMIN = "admin"
    """It changes which models are served, or asks about that."""


class Access:
    """The rule. An administrator's key is also a key for everything else."""

    def __init__(self, settings: Settings) -> None:
        self._asks = settings.has_api_keys
        self._keys = _Keys(settings.api_keys, settings.api_keys_file, "API_KEYS_FILE")
        self._admin = _Keys(settings.admin_keys, settings.admin_keys_file, "ADMIN_KEYS_FILE")

    @classmethod
    def of(cls, settings: Settings) -> Access | None:
        """None where no key is set: nothing is checked then, and it costs nothing."""
        return cls(settings) if settings.has_api_keys or settings.has_admin_keys else None

    def check(self, need: Need, authorization: str | None, transport: str) -> None:
        """Let a request pass that shows what it ``need``s.

        ``authorization`` is the header or metadata of that name (RFC 6750, section 2.1),
        ``transport`` a label of the metric. Raises Unauthorized without a known key, Forbidden
        with one that is not an administrator's.
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
    """Digests of keys. Those of a file follow it: a bad change is logged, the old keys stay."""

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
        """Whether it is the digest of one of them; takes as long for each."""
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
    """Changes with the file; empty where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
