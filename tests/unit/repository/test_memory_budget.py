"""The memory that a worker may take: the sum of its limits holds under a flood."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.config import cgroup
from service.repository import memory_budget as announced


def test_a_ceiling_above_what_there_is_is_said() -> None:
    assert announced.above(500_000_000, 2, 1_000_000_000) == ""
    one = announced.above(3_512_000_000, 1, 2_000_000_000)
    assert one.startswith(
        "the memory ceiling of this worker is 3,512 MB, more than the 2,000 MB that this container"
    )
    assert "ceilings of 4 workers add up to 4,000 MB" in announced.above(1_000_000_000, 4, 1 << 31)


@pytest.mark.parametrize(
    ("own", "files", "limit"),
    [
        # in a container its own group is the root of what is mounted; version 2, then 1
        ("0::/\n", {"memory.max": "2000"}, 2000),
        ("4:memory:/docker/a\n", {"memory/memory.limit_in_bytes": "3000"}, 3000),
        # elsewhere the least of a group and all around it
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "700"}, 700),
        ("0::/a/b\n", {"a/b/memory.max": "600", "a/memory.max": "700"}, 600),
        (
            "9:cpu,cpuacct:/x\n4:memory:/a/b\n0::/\n",
            {"memory/a/b/memory.limit_in_bytes": "900", "memory/a/memory.limit_in_bytes": "800"},
            800,
        ),
        ("0::/../other\n", {"memory.max": "500"}, 500),
        ("0::/a\n", {"a/memory.max": "max"}, None),
        (None, {}, None),
    ],
)
def test_the_limit_of_a_container(
    own: str | None, files: dict[str, str], limit: int | None, tmp_path: Path
) -> None:
    for name, text in files.items():
        path = tmp_path / "mounted" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    if own is not None:
        (tmp_path / "own").write_text(own)
    assert cgroup.memory_limit(tmp_path / "own", tmp_path / "mounted") == limit
