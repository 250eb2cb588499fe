"""The service whose workers end while they start, as long as the file in DYING is there."""

from __future__ import annotations

import os
from pathlib import Path

from service.app import ZooService as ZooService
from service.config.settings import Settings
from service.dataplane.dataplane import DataPlane

_init = DataPlane.__init__


def _die(self: DataPlane, settings: Settings) -> None:
    if Path(os.environ["DYING"]).exists():
        os._exit(9)
    _init(self, settings)


DataPlane.__init__ = _die  # type: ignore[method-assign]
