"""CONTRIBUTING.md's walk that needs PyTorch: a network of a library is one file and a page."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.walks import walk

HEADING = "Add a network of a library"


def test_a_network_of_a_library_is_one_file_and_a_page(tmp_path: Path) -> None:
    followed = walk(HEADING, tmp_path)
    listed, counted, page = (followed.run(command) for command in followed.commands[:3])
    assert listed.returncode == 0, listed.stderr
    assert "mnasnet0_5" in listed.stdout
    assert counted.stdout.strip() == "mnasnet0_5: 104_455_968 multiply-adds"
    assert page.returncode == 0, page.stderr
    assert "| `mnasnet0_5` | 2018 |" in (tmp_path / "docs" / "zoo.md").read_text("utf-8")
    assert followed.changed() == {
        "export/zoo/families/mnasnet.py",
        "docs/zoo.md",
        "docs/zoo.png",
    }


@pytest.mark.zoo
def test_it_is_built_and_proved(tmp_path: Path) -> None:
    followed = walk(HEADING, tmp_path)
    (build,) = followed.commands[3:]
    built = followed.run(build)
    assert built.returncode == 0, built.stderr
    assert "proved on" in built.stdout
    assert (tmp_path / "built" / "mnasnet0_5" / "1" / "model.onnx").is_file()
