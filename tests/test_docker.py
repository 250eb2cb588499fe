"""The Dockerfiles, .dockerignore and the health check: what can be held without building an image.

`make image-test` builds and runs them (tests/image).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pathspec
import pytest
import yaml

from service.config.settings import PREFIX, Settings
from tests.server import Server, free_port, serving
from tests.service.test_tls import issue
from tests.test_packaging import PROJECT, ROOT

DOCKERFILES = sorted((ROOT / "deploy").glob("Dockerfile*"))
SERVICES = [path for path in DOCKERFILES if path.name in ("Dockerfile", "Dockerfile.gpu")]
BENTOFILE = yaml.safe_load((ROOT / "bentofile.yaml").read_text())
PYTHON = "3.11"
QUICK = {"zoo_default_model": "lenet5", "zoo_load": "used", "zoo_max_batch": 1}


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


everywhere = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
services = pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)


@everywhere
def test_hadolint_finds_nothing(path: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "--no-color", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


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


@pytest.mark.needs("git")
def test_an_image_is_built_from_the_embedded_models_and_no_others() -> None:
    ignored = ignores()
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in tracked:
        if name.startswith(("service/", "models/")):
            assert not ignored(Path(name)), name
        if name.startswith(("tests/", "docs/", "export/", ".")):
            assert ignored(Path(name)), name
    for name in (
        ".git/config",
        ".env",
        "models/resnet50/1/model.onnx",
        "service/__pycache__/a.pyc",
    ):
        assert ignored(Path(name)), name


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


def health(**environment: object) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ZOO_", "BENTOML_"))}
    given = {name.upper(): str(value) for name, value in environment.items()}
    return subprocess.run(
        [sys.executable, "-m", "service.healthcheck"],
        cwd=ROOT, env={**clean, **given}, capture_output=True, text=True, timeout=30,
    )  # fmt: skip


def port_of(server: Server) -> int:
    return int(server.url.rpartition(":")[2])


def test_a_service_that_answers_is_healthy(server: Server) -> None:
    for host in ("", "0.0.0.0", "127.0.0.1"):
        done = health(bentoml_port=port_of(server), zoo_host=host)
        assert (done.returncode, done.stderr) == (0, ""), host


def test_a_service_with_tls_is_healthy(tmp_path: Path) -> None:
    files = issue(tmp_path / "files", "127.0.0.1")
    with serving(tmp_path, tls=files.trusting(), **files.settings) as server:
        port = port_of(server)
        assert health(bentoml_port=port, zoo_tls_cert=files.cert).returncode == 0
        assert health(bentoml_port=port).returncode == 1  # plain text is refused
        # where clients need a certificate it is enough that somebody listens
        assert health(bentoml_port=port, zoo_tls_client_ca=files.ca).returncode == 0


def test_a_service_that_is_not_ready_is_unhealthy(tmp_path: Path) -> None:
    broken = tmp_path / "models" / "lenet5" / "1"
    broken.mkdir(parents=True)
    (broken / "manifest.json").write_text("{}")
    settings = {**QUICK, "zoo_models": tmp_path / "models"}
    with serving(tmp_path, ready=503, **settings) as server:
        done = health(bentoml_port=port_of(server))
        assert done.returncode == 1
        assert "/readyz answers 503" in done.stderr


def test_nobody_who_listens_is_unhealthy() -> None:
    port = free_port()
    for extra in ({}, {"zoo_tls_client_ca": "ca.pem"}):
        done = health(bentoml_port=port, **extra)
        assert done.returncode == 1
        assert f"127.0.0.1:{port}: " in done.stderr
        assert "Traceback" not in done.stderr
