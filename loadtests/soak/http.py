"""Users of HTTP: pictures as bodies and in forms, the Open Inference Protocol in two forms."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from loadtests.clients import client
from loadtests.harness import marked
from loadtests.soak import material
from loadtests.soak.ledger import Entry, Ledger, Refused, WrongAnswer
from loadtests.soak.material import COMES_AND_GOES, MODEL, SWAPPED, Picture
from loadtests.soak.network import Line
from loadtests.soak.users import Deed, User

Check = Callable[[bytes], None]
"""Takes the body of an answer. Raises WrongAnswer."""

REQUESTS_OF_A_LINE = 100
"""How many requests a user sends on one connection."""
NO_PICTURE = b"this is no picture"
_BOUNDARY = "soak-soak-soak"


def form(pictures: Sequence[bytes], path: str) -> bytes:
    """Return a request with some pictures as the parts of a form."""
    parts = b"".join(
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"\r\n\r\n'.encode()
        + picture
        + b"\r\n"
        for picture in pictures
    )
    body = parts + f"--{_BOUNDARY}--\r\n".encode()
    return client.request(path, f"multipart/form-data; boundary={_BOUNDARY}", body)


def oip_json(pictures: Sequence[bytes], protocol: str) -> bytes:
    """Return a request of the Open Inference Protocol in JSON, for all classes."""
    data = [base64.b64encode(picture).decode() for picture in pictures]
    image = {"name": "image", "datatype": "BYTES", "shape": [len(pictures)], "data": data}
    body = {"parameters": {"protocol": protocol}, "inputs": [image]}
    return client.request(_infer(MODEL), "application/json", json.dumps(body).encode())


def prefixed(pictures: Sequence[bytes]) -> bytes:
    """Return elements of BYTES, each with its length before it."""
    return b"".join(struct.pack("<I", len(picture)) + picture for picture in pictures)


def oip_binary(pictures: Sequence[bytes], protocol: str) -> bytes:
    """Return a request for two classes, with binary data both ways, behind the JSON."""
    data = prefixed(pictures)
    size = {"binary_data_size": len(data)}
    image = {"name": "image", "datatype": "BYTES", "shape": [len(pictures)], "parameters": size}
    parameters = {"protocol": protocol, "top_k": 2, "binary_data_output": True}
    text = json.dumps({"parameters": parameters, "inputs": [image]}).encode()
    header = f"Inference-Header-Content-Length: {len(text)}\r\n"
    path = _infer(f"{MODEL}.topk")
    return client.request(path, "application/octet-stream", text + data, header)


def _infer(model: str) -> str:
    return f"/v2/models/{model}/infer"


def judge(entry: Entry, ledger: Ledger, status: int, body: bytes, check: Check) -> None:
    """End a request by its answer. Raises Refused or WrongAnswer."""
    if status == 200:
        check(body)
        entry.right()
        return
    code = code_of(body)
    if (status, code) == (429, "overloaded"):
        raise Refused(code)
    if (status, code) == (503, "not_ready") and ledger.was_away(entry.begun):
        raise Refused(code)
    raise WrongAnswer(f"{status} {body[:300]!r}")


def code_of(body: bytes) -> str:
    """Return the stable code of a problem document; empty where it is none."""
    try:
        return str(json.loads(body)["code"])
    except (ValueError, KeyError, TypeError):
        return ""


class HttpUser(User):
    """Keeps a connection for some requests, as libraries do."""

    _line: Line | None = None

    def deeds(self) -> Mapping[Deed, float]:
        return {
            self.raw: 36,
            self.form: 8,
            self.oip_json: 7,
            self.oip_binary: 7,
            self.of_swapped: 28,
            self.of_what_comes_and_goes: 14,
        }

    async def close(self) -> None:
        if self._line is not None:
            self._line.close()

    async def raw(self) -> None:
        """Send a picture as the body."""
        (picture,), protocol = self.some(1), self.protocol()
        request = client.raw(picture.jpeg, f"/classify?protocol={protocol}")

        def check(body: bytes) -> None:
            material.check_classification(json.loads(body), picture, protocol)

        await self._ask(f"http raw {protocol}", request, check)

    async def form(self) -> None:
        """Send a form of three pictures, of which sometimes one is none."""
        pictures = self.some(3)
        bad = self.random.randrange(3) if self.random.random() < 0.25 else None
        parts = [NO_PICTURE if n == bad else p.jpeg for n, p in enumerate(pictures)]

        def check(body: bytes) -> None:
            for number, result in enumerate(_three(json.loads(body)["results"])):
                code = result.get("error", {}).get("code", "")
                if number != bad:
                    material.check_classification(result, pictures[number], "center")
                elif code != "unsupported_format":
                    raise WrongAnswer(f"a bad part was answered by {result}")

        await self._ask("http form", form(parts, "/classify?protocol=center"), check)

    async def oip_json(self) -> None:
        """Send one picture or two by the Open Inference Protocol in JSON."""
        pictures, protocol = self.some(self.random.choice((1, 2))), self.protocol()

        def check(body: bytes) -> None:
            (output,) = json.loads(body)["outputs"]
            rows = np.array(output["data"]).reshape(output["shape"])
            best = rows.argsort(axis=1)[:, :-3:-1]
            values = np.take_along_axis(rows, best, axis=1)
            check_tensors(pictures, protocol, best.ravel().tolist(), values.ravel().tolist())

        await self._ask("http oip json", oip_json([p.jpeg for p in pictures], protocol), check)

    async def oip_binary(self) -> None:
        """Send the same in binary, for the best classes."""
        pictures, protocol = self.some(self.random.choice((1, 2))), self.protocol()

        def check(body: bytes) -> None:
            answer, at = json.JSONDecoder().raw_decode(body.decode("latin-1"))
            tensors = {}
            for output in answer["outputs"]:
                size = output["parameters"]["binary_data_size"]
                tensors[output["name"]] = body[at : at + size]
                at += size
            indices = np.frombuffer(tensors["indices"], "<i8")
            probabilities = np.frombuffer(tensors["scores"], "<f4")
            check_tensors(pictures, protocol, indices.tolist(), probabilities.tolist())

        await self._ask("http oip binary", oip_binary([p.jpeg for p in pictures], protocol), check)

    async def of_swapped(self) -> None:
        """Ask the model that gets new versions."""
        await self._marked(SWAPPED)

    async def of_what_comes_and_goes(self) -> None:
        """Ask the model that is unloaded and loaded."""
        await self._marked(COMES_AND_GOES)

    async def _marked(self, model: str) -> None:
        (picture,) = self.some(1)
        path = f"/classify?model={model}&top_k={marked.CLASSES}"

        def check(body: bytes) -> None:
            material.check_whole(body, model)

        await self._ask(f"http {model}", client.raw(picture.jpeg, path), check)

    async def _ask(self, kind: str, request: bytes, check: Check) -> None:
        with self.ledger.request(kind) as entry:
            if self._line is None or not self._line.usable or self._worn(self._line):
                await self.close()
                self._line = await self.network.line()
            status, body = await self._line.ask(request)
            judge(entry, self.ledger, status, body, check)

    @staticmethod
    def _worn(line: Line) -> bool:
        return line.requests >= REQUESTS_OF_A_LINE


def check_tensors(
    pictures: Sequence[Picture],
    protocol: str,
    indices: Sequence[int],
    probabilities: Sequence[float],
) -> None:
    """Raise WrongAnswer unless rows of two classes, best first, are those of the pictures."""
    if not len(indices) == len(probabilities) == 2 * len(pictures):
        raise WrongAnswer(f"{len(indices)} indices for {len(pictures)} pictures")
    for row, picture in enumerate(pictures):
        picture.check(protocol, indices[2 * row], probabilities[2 * row])


def _three(results: Sequence[dict[str, dict[str, str]]]) -> Sequence[dict[str, dict[str, str]]]:
    if len(results) != 3:
        raise WrongAnswer(f"{len(results)} results for 3 pictures")
    return results
