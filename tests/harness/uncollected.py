"""The service whose workers never collect circles of objects: memory is free at once, or never."""

from __future__ import annotations

import gc

from service.app import ZooService as ZooService

gc.disable()
