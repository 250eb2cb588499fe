"""Judge every answer, and count what became of each case."""

from __future__ import annotations

import base64
import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from service.errors import ALL, ZooError

CODES: dict[str, type[ZooError]] = {error.code: error for error in ALL}
FAULTS = frozenset(("internal",))
"""Codes that nothing a client sends may yield."""
EVER = frozenset(("not_ready",))
"""Nothing here stops, loads or unloads models, so no request may be told that."""


class Outcome(NamedTuple):
    """The outcome of one case."""

    label: str
    """Its status, code or way to end, as the report counts it."""
    seconds: float = 0.0
    fault: str = ""
    """Why it is a finding; empty where it is none."""


@dataclass(frozen=True)
class Case:
    """A hostile picture or request, with all that is needed to send it again."""

    transport: str
    """decode, http or grpc."""
    family: str
    """jpeg, png, ...; http; oip; grpc; http2."""
    recipe: str
    seed: int
    index: int
    data: bytes
    """The picture, the bytes on the socket, or messages with their lengths before them."""
    options: dict[str, Any] = field(default_factory=dict)
    """How it is sent; JSON values."""

    @property
    def name(self) -> str:
        """Family, transport, seed and number, joined."""
        return f"{self.family}-{self.transport}-{self.seed}-{self.index}"

    def save(self, folder: Path, profile: str, fault: str) -> Path:
        """Save the case so that it can be replayed; return the file."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}-{profile}.json"
        content = asdict(self) | {"data": base64.b64encode(self.data).decode()}
        path.write_text(json.dumps({**content, "profile": profile, "fault": fault}, indent=1))
        return path


def load(path: Path) -> tuple[Case, str]:
    """Read a saved case, and the profile of its service."""
    content = json.loads(path.read_text())
    content["data"] = base64.b64decode(content["data"])
    profile = content.pop("profile")
    del content["fault"]
    return Case(**content), profile


class Counts:
    """Counts of one family over one transport."""

    def __init__(self) -> None:
        self.cases = 0
        self.labels: Counter[str] = Counter()
        self.slowest = 0.0
        self.slowest_case = ""
        self.recipes: Counter[str] = Counter()
        self.faults: list[tuple[Case, str]] = []

    def add(self, case: Case, outcome: Outcome) -> None:
        """Count a case and its outcome."""
        self.cases += 1
        self.labels[outcome.label] += 1
        self.recipes[case.recipe] += 1
        if outcome.seconds > self.slowest:
            self.slowest, self.slowest_case = outcome.seconds, case.name
        if outcome.fault:
            self.faults.append((case, outcome.fault))

    def include(self, other: Counts) -> None:
        """Add another's counts."""
        self.cases += other.cases
        self.labels += other.labels
        self.recipes += other.recipes
        if other.slowest > self.slowest:
            self.slowest, self.slowest_case = other.slowest, other.slowest_case
        self.faults += other.faults


class Limits(NamedTuple):
    """The limits that answers are judged by."""

    deadline_s: float
    grace_s: float
    """How much later an answer may arrive: it travels, and this machine does other things."""


def judged(
    status: int, headers: dict[str, str], body: bytes, seconds: float, limits: Limits
) -> Outcome:
    """Judge an answer over HTTP that came ``seconds`` after its request."""
    if seconds > limits.deadline_s + limits.grace_s:
        return Outcome(str(status), seconds, f"answered after {seconds:.2f} s")
    if status < 400:
        return Outcome(str(status), seconds, "" if 200 <= status < 300 else "neither 2xx nor 4xx")
    fault = _problem(status, headers, body)
    if not fault and status == 504 and seconds < limits.deadline_s - 0.1:
        fault = f"deadline_exceeded after {seconds:.3f} s of {limits.deadline_s:g}"
    return Outcome(str(status), seconds, fault)


def _problem(status: int, headers: dict[str, str], body: bytes) -> str:
    """Say what is wrong with a problem document; empty where nothing is."""
    if headers.get("content-type") != "application/problem+json":
        if status == 503 and headers.get("content-type") == "application/json":
            return "" if b"ready" in body else "a 503 without a problem"
        return f"{status} with {headers.get('content-type')} is no problem document"
    try:
        content = json.loads(body)
    except ValueError:
        return "the problem is no JSON"
    error = CODES.get(content.get("code"))
    if error is None or error.http_status != status or content.get("status") != status:
        return f"the code {content.get('code')!r} does not go with {status}"
    if error.code in FAULTS | EVER:
        return f"{error.code}: {content.get('detail')}"
    missing = {"type", "title", "detail", "request_id"} - set(content)
    if missing or not content["detail"]:
        return f"the problem lacks {missing or 'a detail'}"
    if status == 429 and not headers.get("retry-after", "").isdigit():
        return "a 429 without Retry-After"
    return ""
