"""Names the folders that the service writes to unless a setting says otherwise."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def bentoml_home() -> Path:
    """Return the folder that BentoML and we write to at run time; each server needs its own."""
    home = os.environ.get("BENTOML_HOME", "")
    return Path(home) if home else _at_home("bentoml")


def default_state() -> Path:
    """Return our folder below `bentoml_home`, the default of ZOO_STATE."""
    return bentoml_home() / "zoo"


def default_cache() -> Path:
    """Return our folder below the user's cache folder (XDG base directories)."""
    home = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (home if home.is_absolute() else _at_home(".cache")) / "imagenet-zoo-server"


def _at_home(name: str) -> Path:
    """Return ``name`` in the user's home, or in the temporary folder where the user has none."""
    try:
        return Path("~", name).expanduser()
    except RuntimeError:  # a user without a home
        return Path(tempfile.gettempdir())
