"""What the system grants the container that this process runs in: Linux' control groups."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

_FILES = {"": "memory.max", "memory": "memory.limit_in_bytes"}
"""Of version 2, which names no controller, and of version 1."""


def memory_limit(
    own: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Bytes of memory, the least that this process' group and those around it may take.

    None where nothing says so. ``own`` names the group of this process by version 2 and 1,
    ``mounted`` is where groups are folders; in a container that is mostly its own group alone.
    """
    limits = []
    for folder, name in _groups(own, mounted):
        with suppress(OSError, ValueError):  # "max": no limit here
            limits.append(int((folder / name).read_text()))
    return min(limits, default=None)


def _groups(own: Path, mounted: Path) -> Iterator[tuple[Path, str]]:
    """The folders to look at, and the name of the file there."""
    yield mounted, _FILES[""]
    yield mounted / "memory", _FILES["memory"]
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in set(controllers.split(",")) & set(_FILES):
            group = PurePosixPath(path.lstrip("/"))
            if ".." in group.parts:  # a group outside of what is mounted here
                continue
            for each in (group, *group.parents):
                yield mounted / controller / each, _FILES[controller]
                if not controller:  # both versions side by side
                    yield mounted / "unified" / each, _FILES[controller]
