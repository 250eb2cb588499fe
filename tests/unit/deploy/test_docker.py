"""The Dockerfiles, .dockerignore and the health check: what can be held without building an image.

`make image-test` builds and runs them (tests/image).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from service.config.settings import PREFIX, Settings
from tests.harness.dockerfiles import DOCKERFILES, everywhere, ignores
from tests.paths import ROOT
from tests.unit.house.test_packaging import PROJECT

SERVICES = [path for path in DOCKERFILES if path.name in ("Dockerfile", "Dockerfile.gpu")]
BENTOFILE = yaml.safe_load((ROOT / "bentofile.yaml").read_text())
PYTHON = "3.11"


class Instruction(NamedTuple):
    name: str
    value: str


def stages(path: Path) -> list[list[Instruction]]:
    """What is before the first FROM, then a list for each stage."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.M).replace("\\\n", " ")
    found: list[list[Instruction]] = [[]]
    for line in filter(None, map(str.strip, text.splitlines())):
        instruction = Instruction(*line.split(maxsplit=1))
        if instruction.name == "FROM":
            found.append([])
        found[-1].append(instruction)
    return found


def values(stage: list[Instruction], name: str) -> list[str]:
    return [value for instruction, value in stage if instruction == name]


def variables(stage: list[Instruction]) -> dict[str, str]:
    pairs = re.findall(r"(\w+)=(\S+)", " ".join(values(stage, "ENV")))
    return dict(pairs)


def defaults(path: Path) -> dict[str, str]:
    """ARG with a value, of all stages."""
    named = (value for stage in stages(path) for value in values(stage, "ARG"))
    return dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', "\n".join(named), flags=re.M))


services = pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)


@everywhere
def test_every_stage_starts_from_one_base_of_one_python(path: Path) -> None:
    rest = stages(path)[1:]
    assert len(rest) == 2
    for stage in rest:
        assert values(stage, "FROM")[0].split(" AS ")[0] == "${BASE}"
    assert defaults(path)["BASE"] == BENTOFILE["docker"]["base_image"]
    assert re.fullmatch(rf"docker\.io/library/python:{PYTHON}-slim-\w+", defaults(path)["BASE"])
    assert BENTOFILE["docker"]["python_version"] == PYTHON
    folders = re.findall(r"/lib/python([\d.]+)/", path.read_text())
    assert set(folders) == {PYTHON}
    assert f"Programming Language :: Python :: {PYTHON}" in PROJECT["classifiers"]


@everywhere
def test_the_last_stage_has_what_was_built_and_builds_nothing(path: Path) -> None:
    last = stages(path)[-1]
    assert not {name for name, _ in last} & {"RUN", "ADD", "SHELL", "VOLUME", "CMD"}
    for value in values(last, "COPY"):
        assert value.startswith("--from=build "), value
    for value in values(last, "ENTRYPOINT"):
        assert json.loads(value), "the exec form: signals reach the service"
    assert values(last, "STOPSIGNAL") == ["SIGTERM"]


@everywhere
def test_nobody_is_root_and_nothing_is_secret(path: Path) -> None:
    last = stages(path)[-1]
    (user,) = values(last, "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    names = {name for stage in stages(path) for name in variables(stage)} | set(defaults(path))
    assert not [name for name in names if re.search("KEY|TOKEN|PASSWORD|SECRET", name)]


@everywhere
def test_what_is_copied_is_there_and_not_ignored(path: Path) -> None:
    ignored = ignores()
    copied = {
        source
        for stage in stages(path)
        for value in values(stage, "COPY")
        if not value.startswith("--from")
        for source in value.split()[:-1]
    }
    assert {"pyproject.toml", "service"} <= copied
    for source in copied:
        files = [ROOT / source] if (ROOT / source).is_file() else (ROOT / source).rglob("*.py")
        kept = [file for file in files if not ignored(file.relative_to(ROOT))]
        assert kept, source


@services
def test_the_service_is_reached_and_writes_below_tmp(path: Path) -> None:
    last = stages(path)[-1]
    assert values(last, "EXPOSE") == ["3000 3001"]
    assert json.loads(values(last, "ENTRYPOINT")[0])[:2] == ["bentoml", "serve"]
    environment = variables(last)
    assert environment["ZOO_HOST"] == "0.0.0.0"
    for name in ("HOME", "BENTOML_HOME", "NUMBA_CACHE_DIR"):
        assert environment[name].split("/")[1] == "tmp"
    bento = {entry["name"]: entry["value"] for entry in BENTOFILE["envs"]}
    shared = {"HOME", "NUMBA_CACHE_DIR", "ZOO_HOST"}
    assert bento == {name: environment[name] for name in shared}
    ours = [name for name in environment if name.startswith(PREFIX)]
    assert {name.removeprefix(PREFIX).lower() for name in ours} <= set(Settings.model_fields)


@services
def test_the_labels_are_those_of_the_image_specification(path: Path) -> None:
    last = stages(path)[-1]
    labels = dict(
        re.findall(r'org\.opencontainers\.image\.([\w.]+)="([^"]*)"', values(last, "LABEL")[0])
    )
    assert {"title", "description", "licenses", "version", "revision", "base.name"} == set(labels)
    assert labels["licenses"] == PROJECT["license"]
    assert labels["base.name"] == defaults(path)["BASE"]
    from service import __version__

    assert defaults(path)["VERSION"] == __version__


@services
def test_the_health_check_gives_up_before_docker_does(path: Path) -> None:
    from service.healthcheck import TIMEOUT_S

    (check,) = values(stages(path)[-1], "HEALTHCHECK")
    options, command = check.split("CMD", 1)
    assert int(re.findall(r"--timeout=(\d+)s", options)[0]) > TIMEOUT_S
    assert json.loads(command) == ["python", "-m", "service.healthcheck"]
