"""Tests that need what a machine lacks are skipped in one way, and the summary says why."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests import capabilities
from tests.paths import ROOT

ASIDE = {"tests/capabilities.py", "tests/unit/house/test_capabilities.py"}
AT_IMPORT = re.compile(r"skipif|importorskip|pytest\.skip\b|allow_module_level")
RUN = re.compile(r'program\("([a-z_]+)"\)')
MARKED = re.compile(r"(?:mark\.needs|demand)\(((?:\"[a-z0-9 ]+\"(?:, )?)+)\)")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """An environment of variables to set; what was answered before is forgotten, and after."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv(capabilities.HIDING, raising=False)
    capabilities.reason.cache_clear()
    yield monkeypatch
    capabilities.reason.cache_clear()


def sources() -> dict[str, str]:
    files = sorted((ROOT / "tests").rglob("*.py"))
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in files}


def test_there_is_one_way_to_skip() -> None:
    found = [name for name, text in sources().items() if AT_IMPORT.search(text)]
    assert set(found) <= ASIDE


def test_what_tests_need_is_known() -> None:
    named = {
        name
        for text in sources().values()
        for group in MARKED.findall(text)
        for name in re.findall(r'"([^"]+)"', group)
    }
    assert {"openvino", "bf16", "promtool"} <= named <= capabilities.CAPABILITIES.keys()


def test_what_runs_a_program_asks_for_it() -> None:
    for name, text in sources().items():
        named = set(re.findall(r'"([^"]+)"', " ".join(MARKED.findall(text))))
        assert name in ASIDE or set(RUN.findall(text)) <= named, name


def test_what_reads_proc_asks_for_it() -> None:
    """Of the load tests all do: tests/served/loadtests/conftest.py."""
    aside = {*ASIDE, "tests/pytorch/versions/test_build.py"}  # a folder that cannot be
    for name, text in sources().items():
        if re.search(r'"/proc/', text) and not name.startswith(
            ("tests/image", "tests/served/loadtests")
        ):
            assert name in aside or '"proc"' in text or ".spares()" in text, name


def test_what_is_hidden_is_skipped(asked: pytest.MonkeyPatch) -> None:
    asked.setenv(capabilities.HIDING, "git, bf16")
    with pytest.raises(pytest.skip.Exception, match=r"^needs git: "):
        capabilities.demand("git")
    asked.setenv(capabilities.HIDING, "avx")
    with pytest.raises(ValueError, match=r"ZOO_TEST_WITHOUT: avx is none of openvino, "):
        capabilities.hidden()


def test_in_ci_what_can_be_installed_must_be_there(asked: pytest.MonkeyPatch) -> None:
    asked.setenv(capabilities.HIDING, "promtool,amx")
    asked.setenv("PATH", "/nowhere")
    with pytest.raises(pytest.skip.Exception, match=r"^needs promtool: promtool is "):
        capabilities.demand("promtool")
    asked.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"^needs promtool, which CI must have: "):
        capabilities.demand("promtool")
    with pytest.raises(pytest.skip.Exception, match=r"^needs amx: "):
        capabilities.demand("amx")


def test_the_summary_is_grouped() -> None:
    skipped = [("a.py", "needs x: no"), ("b.py", "needs x: no"), ("a.py", "needs x: no")]
    assert capabilities.summary([*skipped, ("b.py", "needs w: gone")]) == [
        "1 skipped: needs w: gone: b.py (1)",
        "3 skipped: needs x: no: a.py (2), b.py (1)",
    ]
