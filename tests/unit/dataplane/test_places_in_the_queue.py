"""How many places of the queue a request takes: one for each crop of each of its pictures."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from pathlib import Path

import pytest

from loadtests.harness import marked
from service.dataplane.query import Query
from service.errors import Overloaded
from tests.harness.planes import PICTURE, started, until


@pytest.mark.parametrize("pictures", [1, 3])
@pytest.mark.parametrize("crops", [1, 10])
async def test_each_crop_of_each_picture_has_its_place(
    pictures: int, crops: int, tmp_path: Path
) -> None:
    path = marked.add(tmp_path, "default", 1) / "manifest.json"
    content = json.loads(path.read_text())
    content["protocols"]["supported"].append({"name": "ten_crop", "scales": []})
    path.write_text(json.dumps(content))
    protocol = "center" if crops == 1 else "ten_crop"
    places = pictures * crops
    async with started(tmp_path, queue_crops=places) as plane:
        gate = threading.Event()
        plane._pool.post("prepare", gate.wait)
        query = Query("default", protocol=protocol)
        work = plane.classify([PICTURE] * pictures, query, transport="test", deadline=math.inf)
        asking = asyncio.ensure_future(work)
        await until(lambda: plane.admission.in_use > 0)
        assert plane.admission.in_use == places
        one = Query("default", protocol="center")
        with pytest.raises(Overloaded, match=f"{places} crops are waiting, 1 more do not fit"):
            await plane.classify([PICTURE], one, transport="test", deadline=math.inf)
        gate.set()
        assert len(await asking) == pictures
        assert plane.admission.in_use == 0
        (alone,) = await plane.classify([PICTURE], one, transport="test", deadline=math.inf)
        assert not isinstance(alone, Exception)
