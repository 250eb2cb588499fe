"""The service on a device that is lost once: when the file in LOST_DEVICE is there."""

from __future__ import annotations

import os
from pathlib import Path

from service.app import ZooService as ZooService
from service.engine.outputs import Outputs
from service.engine.session import Session
from service.imaging.crops import Crops

_compute = Session._compute


def _lost(self: Session, crops: Crops) -> Outputs:
    trigger = Path(os.environ["LOST_DEVICE"])
    if trigger.exists():
        trigger.unlink()
        raise RuntimeError("CUDA failure 700: an illegal memory access was encountered ; GPU=0")
    return _compute(self, crops)


Session._compute = _lost  # type: ignore[method-assign]
