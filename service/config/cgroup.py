"""Reads the memory limit of this process' container from Linux' control groups."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

_FILES = {"": "memory.max", "memory": "memory.limit_in_bytes"}
"""The file that holds a group's limit, by the controller that /proc/self/cgroup names: version 2 of
control groups names none, version 1 `memory`."""


def memory_limit(
    own: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Return the bytes of memory that this process may take, or None where no limit is set.

    Of the limits of the process' own group and of those above it the least counts. The file ``own``
    names the group, below the folder ``mounted`` each group is a folder. In a container ``mounted``
    is mostly the container's own group.
    """
    limits = []
    for folder, name in _groups(own, mounted):
        with suppress(OSError, ValueError):  # "max" says that this group has no limit
            limits.append(int((folder / name).read_text()))
    return min(limits, default=None)


def _groups(own: Path, mounted: Path) -> Iterator[tuple[Path, str]]:
    """Yield each folder that may hold a limit, and the name of the file with it."""
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
            if ".." in group.parts:  # the group lies outside of what is mounted here
                continue
            for each in (group, *group.parents):
                yield mounted / controller / each, _FILES[controller]
                if not controller:  # where both versions are in use, version 2 is mounted here
                    yield mounted / "unified" / each, _FILES[controller]
