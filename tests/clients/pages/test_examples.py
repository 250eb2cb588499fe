"""Every example of docs/clients.md prints what the page says; those of docs/oip.md work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import capabilities
from tests.clients.conftest import PYTHON
from tests.paths import ROOT
from tests.server import Server

PAGE = ROOT / "docs" / "clients.md"
OF_THE_PROTOCOL = ROOT / "docs" / "oip.md"
TOOLS = ("curl", "grpcurl", "perf_analyzer")
MODULES = ("pytriton", "mlperf_loadgen")
"""What not every machine can have: an example that needs it is skipped there."""
TIMING = re.compile(r'"timing_ms":\{[^}]*\}')
NUMBER = re.compile(r"(\d+\.\d+)")
TOLERANCE = 0.01
"""Of probabilities: processors round differently."""
SECONDS = 120
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


@dataclass(frozen=True)
class Example:
    """A block of code and the block behind it."""

    section: str
    language: str
    code: str
    prints: str


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """Section, language and text of each fenced block."""
    found, section = [], ""
    for match in re.finditer(r"^## ([^\n]+)$|^```(\w+)\n(.*?)^```$", page.read_text(), re.M | re.S):
        section = match[1] or section
        if match[2]:
            found.append((section, match[2], match[3]))
    return found


def examples() -> list[Example]:
    """Each block of code with what it prints."""
    found = blocks(PAGE)
    return [
        Example(section, language, code, found[place + 1][2])
        for place, (section, language, code) in enumerate(found)
        if language != "text"
    ]


def name(example: Example) -> str:
    return example.section.replace(" ", "-")


def parts(text: str) -> tuple[list[str], list[float]]:
    """The words, and the fractional numbers between them; how long something took is neither."""
    pieces = NUMBER.split(TIMING.sub("", text))
    return [" ".join(piece.split()) for piece in pieces[::2]], list(map(float, pieces[1::2]))


def test_every_block_is_an_example_or_what_it_prints() -> None:
    languages = [language for _, language, _ in blocks(PAGE)]
    assert len(languages) >= 30
    assert set(languages[::2]) == {"sh", "python"}
    assert set(languages[1::2]) == {"text"}


def printed(server: Server, folder: Path, language: str, code: str) -> str:
    """What the code prints when it runs where the pictures are. It must not fail."""
    for tool in TOOLS:
        if language == "sh" and tool in code:
            capabilities.demand(tool)
    for module in MODULES:
        if f"import {module}" in code or f"from {module}" in code:
            capabilities.demand(module)
    code = code.replace("localhost:3000", server.url.removeprefix("http://"))
    code = code.replace("localhost:3001", server.grpc_address)
    command = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
    done = subprocess.run(
        [*command[language], code],
        cwd=folder,
        env={**os.environ, "PATH": PATH, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("example", examples(), ids=name)
def test_an_example_prints_what_the_page_says(
    server: Server, folder: Path, example: Example
) -> None:
    words, numbers = parts(printed(server, folder, example.language, example.code))
    shown_words, shown_numbers = parts(example.prints)
    assert words == shown_words
    assert numbers == pytest.approx(shown_numbers, abs=TOLERANCE)


def test_the_examples_of_the_protocol_classify_a_cat(server: Server, folder: Path) -> None:
    found = blocks(OF_THE_PROTOCOL)
    assert {language for _, language, _ in found} == {"sh", "python"}
    for _, language, code in found:
        assert "tiger cat" in printed(server, folder, language, code)


def test_bentoml_s_own_client_does_not_fit(server: Server) -> None:
    """The page says so; once it fits, the page can show it."""
    code = f"import bentoml; bentoml.SyncHTTPClient({server.url!r})"
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, timeout=SECONDS)
    assert "BentoMLException: Failed to fetch schema" in done.stderr
