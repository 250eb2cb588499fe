"""Measure a served model's error on labelled pictures, in process or over HTTP.

Every answer is written down as it comes (answers.csv), so that a run that was broken off goes on
where it stopped.
"""

from __future__ import annotations

import asyncio
import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import httpx
from PIL import Image

from export.data.dataset import Sample
from export.errors import ExportError
from service.config.settings import ModelSettings, Settings
from service.dataplane.dataplane import DataPlane
from service.dataplane.query import Query
from service.errors import Overloaded, ZooError
from service.imaging.decode import Exif
from service.manifest import (
    VERSION,
    EnsembleManifest,
    Label,
    Manifest,
    Precision,
    RefusedModelError,
)
from service.repository import versions_on_disk
from service.repository.ensemble import PROTOCOL_NAME, Answerer
from service.repository.network import Network

TOP_K = 5
ANSWERS = "answers.csv"
DEADLINE_S = 600.0
"""Seconds that one picture may take, far more than any protocol needs."""


class EvaluationStopped(ExportError):
    """The evaluation cannot go on; what was measured is kept, and the same command resumes it."""


class Rules(NamedTuple):
    """How the pictures are to be answered; None stands for the service's default."""

    version: str | None = None
    protocol: str | None = None
    exif: Exif = "apply"
    precision: Precision | None = None


class Answer(NamedTuple):
    """The answer to one picture: the indices of the best classes, or why there are none."""

    sample: Sample
    best: tuple[int, ...]
    error: str


class Subject(ABC):
    """The model that is measured."""

    name: str
    version: str
    protocol: str
    precision: str
    """Precision of the network's file; empty for an ensemble."""
    exif: Exif
    labels: list[Label]
    published: list[dict[str, Any]]

    @abstractmethod
    async def ask(self, picture: bytes) -> tuple[int, ...] | str:
        """Return the best classes' indices for an encoded picture, or why there is no answer."""

    @abstractmethod
    async def close(self) -> None:
        """Release what was opened."""


class InProcess(Subject):
    """A model of a folder, behind the service's own data plane."""

    def __init__(self, plane: DataPlane, model: Answerer, rules: Rules) -> None:
        """Take over ``plane``, which is started, and stop it in `close`."""
        manifest = model.manifest
        default = manifest.protocols.default if isinstance(manifest, Manifest) else PROTOCOL_NAME
        self.name, self.version, self.labels = model.name, model.version, model.labels
        self.protocol, self.exif = rules.protocol or default, rules.exif
        self.precision = (model.model.precision or "") if isinstance(model, Network) else ""
        self.published = [entry.model_dump(mode="json") for entry in manifest.published]
        self._plane = plane
        top_k = min(TOP_K, len(model.labels))
        self._query = Query(model.name, model.version, rules.protocol, top_k, rules.exif)

    @classmethod
    async def open(cls, models: Path, name: str, rules: Rules) -> InProcess:
        """Load this model alone. Raises ExportError where it cannot be used."""
        if not (models / name).is_dir():
            raise ExportError(f"{models} has no model {name}")
        if rules.version is not None and not VERSION.fullmatch(rules.version):
            raise ExportError(f"{rules.version!r} is no version: they are numbers from 1 on")
        there = [found.version for found in versions_on_disk.find(models) if found.name == name]
        if rules.version not in (None, *there):
            raise ExportError(f"{name} has no version {rules.version}; it has {', '.join(there)}")
        own = ModelSettings(versions=rules.version, precision=rules.precision)
        plane = DataPlane(
            Settings(models=models, default_model=name, watch_seconds=0, model_settings={name: own})
        )
        await plane.start(only=_with_members(models, name))
        try:
            return cls(plane, plane.catalog.model(name, rules.version), rules)
        except ZooError as error:
            await plane.stop()
            raise ExportError(error.detail) from error

    async def ask(self, picture: bytes) -> tuple[int, ...] | str:
        deadline = perf_counter() + DEADLINE_S
        while True:
            try:
                (answer,) = await self._plane.classify(
                    [picture], self._query, transport="evaluate", deadline=deadline
                )
            except Overloaded:
                await asyncio.sleep(0.1)
                continue
            except ZooError as error:
                raise ExportError(error.detail) from error
            if isinstance(answer, ZooError):
                return answer.detail
            return tuple(prediction.index for prediction in answer.predictions)

    async def close(self) -> None:
        await self._plane.stop()


class OverHttp(Subject):
    """A model of a running service."""

    def __init__(self, url: str, name: str, rules: Rules, key: str | None) -> None:
        """Prepare to ask the service at ``url``; `open` reads from it what the model is."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._client = httpx.AsyncClient(base_url=url, timeout=DEADLINE_S, headers=headers)
        self._query = {"model": name, "exif": rules.exif}
        if rules.protocol is not None:
            self._query["protocol"] = rules.protocol
        self.name, self.exif = name, rules.exif
        self._top_k = TOP_K

    @classmethod
    async def open(cls, url: str, name: str, rules: Rules, key: str | None = None) -> OverHttp:
        """Ask the service about the model, with ``key`` where it needs one.

        Raises EvaluationStopped when it does not have it, or not in the version or the precision
        that is asked for: what a service computes in is its operator's to say.
        """
        self = cls(url, name, rules, key)
        which = {} if rules.version is None else {"version": rules.version}
        described = await self._json(await self._send("GET", f"/models/{name}", params=which))
        self._query["version"] = self.version = described["version"]
        self.protocol = rules.protocol or described["protocol"]
        self.published = described["manifest"]["published"]
        count = described["classes"]
        self._top_k = min(TOP_K, count)
        # every label is in the answer to any picture, which loads the model too
        everything = await self._json(await self._classify(_any_picture(), count))
        described = await self._json(await self._send("GET", f"/models/{name}", params=which))
        self.precision = described.get("precision") or ""
        if rules.precision not in (None, self.precision):
            raise EvaluationStopped(
                f"the service computes {name} in {self.precision or 'several precisions'}, not "
                f"{rules.precision}: its ZOO_PRECISION says which"
            )
        by_index = {found["index"]: found for found in everything["predictions"]}
        self.labels = [Label(by_index[i]["synset"], by_index[i]["label"]) for i in range(count)]
        return self

    async def ask(self, picture: bytes) -> tuple[int, ...] | str:
        while True:
            reply = await self._classify(picture, self._top_k)
            if reply.status_code in (413, 415, 422):  # the picture's own fault
                return str(reply.json()["detail"])
            if reply.status_code != 429:
                found = (await self._json(reply))["predictions"]
                return tuple(prediction["index"] for prediction in found)
            await asyncio.sleep(float(reply.headers.get("Retry-After", 1)))

    async def close(self) -> None:
        await self._client.aclose()

    async def _classify(self, picture: bytes, top_k: int) -> httpx.Response:
        query = {**self._query, "top_k": str(top_k)}
        return await self._send("POST", "/classify", params=query, content=picture)

    async def _send(self, method: str, path: str, **what: Any) -> httpx.Response:
        try:
            return await self._client.request(method, path, **what)
        except httpx.HTTPError as error:
            reason = f"{type(error).__name__} {error}".strip()
            raise EvaluationStopped(
                f"the service at {self._client.base_url} does not answer: {reason}"
            ) from error

    async def _json(self, reply: httpx.Response) -> Any:
        try:
            content = reply.json()
        except ValueError:
            content = {"detail": reply.text[:200]}
        if reply.status_code != 200:
            detail = content.get("detail", f"status {reply.status_code}")
            raise EvaluationStopped(f"the service says: {detail}")
        return content


def _any_picture() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), "gray").save(stream, "PNG")
    return stream.getvalue()


def _with_members(models: Path, name: str) -> set[str]:
    """Return the names of the model and, where it is an ensemble, of its members."""
    names = {name}
    for found in versions_on_disk.find(models):
        if found.name == name:
            try:
                manifest = versions_on_disk.read(found)
            except RefusedModelError:
                continue  # the catalogue says why
            if isinstance(manifest, EnsembleManifest):
                names |= {member.model for member in manifest.members}
    return names


class Journal:
    """The answers so far, as a CSV that a later run reads again."""

    COLUMNS = ("picture", "target", "best", "error")

    def __init__(self, folder: Path, subject: Subject) -> None:
        """Begin or continue in ``folder``. Raises ExportError where it is another evaluation's."""
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / ANSWERS
        self._head = (
            f"# {subject.name} version {subject.version} protocol {subject.protocol} "
            f"exif {subject.exif} precision {subject.precision or 'of its members'}\n"
        )
        self.done: dict[str, tuple[int, tuple[int, ...], str]] = {}
        if self._path.exists():
            self._read()
        fresh = not self._path.exists()
        self._stream = self._path.open("a", encoding="utf-8", newline="")
        self._writer = csv.writer(self._stream)
        if fresh:
            self._stream.write(self._head)
            self._writer.writerow(self.COLUMNS)

    def _read(self) -> None:
        text = self._path.read_text(encoding="utf-8")
        if not text.startswith(self._head):
            raise ExportError(
                f"{self._path} belongs to another evaluation ({text.splitlines()[0][2:]}); "
                "choose another --output"
            )
        whole = text[: text.rfind("\n") + 1]  # a line that was cut off is measured again
        if whole != text:
            self._path.write_text(whole, encoding="utf-8")
        for row in csv.DictReader(io.StringIO(whole[len(self._head) :])):
            best = tuple(int(index) for index in row["best"].split())
            self.done[row["picture"]] = (int(row["target"]), best, row["error"])

    def write(self, answer: Answer) -> None:
        """Write one answer down, at once."""
        best = " ".join(map(str, answer.best))
        self._writer.writerow([answer.sample.name, answer.sample.target, best, answer.error])
        self._stream.flush()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


async def run(
    subject: Subject,
    samples: Sequence[Sample],
    journal: Journal,
    *,
    concurrency: int,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Answer]:
    """Ask for every sample that the journal lacks; return all answers in the samples' order.

    ``progress`` is called with the number of answers so far. Raises EvaluationStopped where the
    model cannot be asked any more.
    """
    answers: dict[str, Answer] = {}
    for sample in samples:
        target, best, error = journal.done.get(sample.name, (None, (), ""))
        if target == sample.target:
            answers[sample.name] = Answer(sample, best, error)
    progress(len(answers))
    waiting = iter([sample for sample in samples if sample.name not in answers])

    async def worker() -> None:
        for sample in waiting:
            answer = await _ask(subject, sample)
            journal.write(answer)
            answers[sample.name] = answer
            progress(len(answers))

    workers = [asyncio.create_task(worker()) for _ in range(concurrency)]
    try:
        await asyncio.gather(*workers)
    finally:
        for task in workers:
            task.cancel()
    return [answers[sample.name] for sample in samples]


async def _ask(subject: Subject, sample: Sample) -> Answer:
    try:
        picture = await asyncio.to_thread(sample.path.read_bytes)
    except OSError as error:
        return Answer(sample, (), f"cannot be read: {error.strerror}")
    best = await subject.ask(picture)
    return Answer(sample, (), best) if isinstance(best, str) else Answer(sample, best, "")
