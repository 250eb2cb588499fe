"""The service whose workers end while they start, as long as the file in DYING is there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from service.app import ZooService as ZooService
from service.dataplane.dataplane import DataPlane

_init = DataPlane.__init__


def _die(self: DataPlane, *given: Any) -> None:
    if Path(os.environ["DYING"]).exists():
        os._exit(9)
    _init(self, *given)


DataPlane.__init__ = _die  # type: ignore[method-assign, assignment]
