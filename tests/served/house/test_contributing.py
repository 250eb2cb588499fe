"""The walks of CONTRIBUTING.md that need no PyTorch, and what it says of a release."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from service import __version__
from tests.harness.walks import walk
from tests.paths import ROOT
from tests.photographs import CHELSEA

# a model whose manifest names the new protocol, asked by the data plane of the copy
CLASSIFY = """
import asyncio, sys, time
from service.config.settings import load
from service.dataplane.dataplane import DataPlane
from service.dataplane.query import Query

async def main():
    plane = DataPlane(load())
    await plane.start()
    try:
        picture = open(sys.argv[1], "rb").read()
        deadline = time.perf_counter() + 60
        for protocol in ("center", "mirrored"):
            query = Query(protocol=protocol)
            (answer,) = await plane.classify(
                [picture], query, transport="http", deadline=deadline
            )
            print(answer.protocol, answer.predictions[0].label, answer.predictions[0].probability)
    finally:
        await plane.stop()

asyncio.run(main())
"""


def test_an_evaluation_protocol_is_a_class_a_name_and_a_row(tmp_path: Path) -> None:
    followed = walk("Add an evaluation protocol", tmp_path / "copy")
    assert followed.changed() == {
        "service/imaging/protocols.py",
        "service/manifest.py",
        "docs/protocols.md",
    }
    models = tmp_path / "models"
    shutil.copytree(ROOT / "models" / "efficientnet_lite0", models / "efficientnet_lite0")
    manifest = models / "efficientnet_lite0" / "1" / "manifest.json"
    text = manifest.read_text("utf-8")
    named = re.sub(r'("supported": \[)', r'\1{"name": "mirrored"}, ', text, count=1)
    assert named != text
    manifest.write_text(named, "utf-8")
    script = tmp_path / "classify.py"
    script.write_text(CLASSIFY)
    done = followed.run(f"python {script} {CHELSEA}", ZOO_MODELS=str(models))
    assert done.returncode == 0, done.stderr
    center, mirrored = (line.split() for line in done.stdout.splitlines())
    assert (center[0], mirrored[0]) == ("center", "mirrored")
    assert center[1:-1] == mirrored[1:-1]  # the same class
    assert 0 < abs(float(center[-1]) - float(mirrored[-1])) < 0.2


def test_a_setting_is_a_field_and_a_row(tmp_path: Path) -> None:
    followed = walk("Add a setting", tmp_path)
    assert followed.changed() == {"service/config/settings.py", "docs/settings.md"}
    load = "python -c import service.config.settings as s;print(s.load().most_patience_ms)"
    program, flag, code = load.split(" ", 2)
    command = [sys.executable, flag, code]

    def run(**environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )

    assert program == "python"
    assert run().stdout == "250\n"
    assert run(ZOO_MOST_PATIENCE_MS="17").stdout == "17\n"
    refused = run(ZOO_MOST_PATIENCE_MS="-1").stderr.splitlines()[-1]
    assert "ZOO_MOST_PATIENCE_MS" in refused


def test_the_changelog_has_the_version() -> None:
    headings = re.findall(r"(?m)^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"))
    released = [heading for heading in headings if heading != "Unreleased"]
    assert released[0] == __version__
    assert headings.index("Unreleased") == 0 if "Unreleased" in headings else True


def test_the_hooks_of_commits_are_a_valid_configuration() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "pre_commit", "validate-config", ".pre-commit-config.yaml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_make_alone_prints_its_targets() -> None:
    printed = subprocess.run(
        ["make"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    text = (ROOT / "Makefile").read_text("utf-8")
    phony = re.search(r"(?m)^\.PHONY: (.*)$", text)
    assert phony is not None
    aside = {"help", "most", "aside", "clean", "format"}
    for target in set(phony[1].split()) - aside:
        assert re.search(rf"(?m)^make {target}\b", printed), target
