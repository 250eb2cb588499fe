"""Where the service keeps what it writes, unless a setting says otherwise."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def bentoml_home() -> Path:
    """The folder of what this server keeps while it runs; each server needs its own."""
    home = os.environ.get("BENTOML_HOME", "")
    return Path(home) if home else _at_home("bentoml")


def default_state() -> Path:
    """The part of it that is ours."""
    return bentoml_home() / "zoo"


def default_cache() -> Path:
    """Where programs of this user keep what they can make again (XDG base directories)."""
    home = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (home if home.is_absolute() else _at_home(".cache")) / "imagenet-zoo-server"


def _at_home(name: str) -> Path:
    """A folder of this user."""
    try:
        return Path("~", name).expanduser()
    except RuntimeError:  # a user without a home
        return Path(tempfile.gettempdir())
