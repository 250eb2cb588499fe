"""Where the service keeps what it writes, unless a setting says otherwise."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def default_state() -> Path:
    """A folder of what this server keeps while it runs; BentoML has one for each server."""
    home = os.environ.get("BENTOML_HOME", "")
    return (Path(home) if home else Path("~/bentoml").expanduser()) / "zoo"


def default_cache() -> Path:
    """Where programs of this user keep what they can make again (XDG base directories)."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = Path(home) if Path(home).is_absolute() else Path("~/.cache").expanduser()
    except RuntimeError:  # a user without a home
        folder = Path(tempfile.gettempdir())
    return folder / "imagenet-zoo-server"
