"""The Dockerfiles and what .dockerignore leaves out, as tests read them."""

from __future__ import annotations

from pathlib import Path

import pathspec
import pytest

from tests.paths import ROOT

DOCKERFILES = sorted((ROOT / "deploy").glob("Dockerfile*"))


everywhere = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)


def ignores():  # type: ignore[no-untyped-def]
    """Whether .dockerignore leaves a path out of the build; the last line that matches decides."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]

    def ignored(path: Path) -> bool:
        left_out = False
        for pattern in patterns:
            name = pattern.lstrip("!")
            anchored = name if name.startswith("**") else f"/{name}"  # as Docker reads it
            names = pathspec.PathSpec.from_lines("gitwildmatch", [anchored])
            if names.match_file(str(path)):
                left_out = not pattern.startswith("!")
        return left_out

    return ignored
