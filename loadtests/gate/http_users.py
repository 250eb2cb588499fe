"""Users of HTTP: ``/classify`` as it is, and the Open Inference Protocol."""

from __future__ import annotations

import base64
import json
import random
import ssl
import struct
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from locust import FastHttpUser, task
from urllib3.filepost import encode_multipart_formdata

from loadtests.gate import options
from loadtests.gate.material import Material

CLASSES = 5


class _HttpUser(FastHttpUser):
    """A connection for each user, with the key and the certificate of the options."""

    abstract = True
    material: Material

    def __init__(self, *args: Any) -> None:
        chosen = self.material.options
        if chosen.server_ca:
            self.insecure = False
            self.ssl_context_factory = lambda: ssl.create_default_context(cafile=chosen.server_ca)
        if key := options.key(chosen):
            self.default_headers = {"Authorization": f"Bearer {key}"}
        super().__init__(*args)

    def wait_time(self) -> float:
        """Return the seconds of a pause."""
        return self.material.think_s()

    def ask(
        self, path: str, name: str, body: bytes, check: Callable[[Any], bool], **headers: str
    ) -> None:
        """Send a body; any status but 200, or an answer that ``check`` rejects, is a failure."""
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        data: Any = body  # its type says text, what it sends are bytes
        with self.client.post(
            path, name=name, data=data, headers=sent, catch_response=True
        ) as reply:
            if reply.status_code != 200:
                reply.failure(f"{reply.status_code} {code_of(reply.text)}")
            elif not check(reply):
                reply.failure("200 without an answer")


def code_of(text: str | None) -> str:
    """Return the stable code of a problem document; the text itself where it is none."""
    try:
        return str(json.loads(text or "")["code"])
    except (ValueError, KeyError, TypeError):
        return (text or "no answer")[:100]


class HttpClassifier(_HttpUser):
    """Pictures as bodies, and one of four requests as a form, some with two pictures."""

    @task(3)
    def raw(self) -> None:
        """Send a picture as the body."""
        protocol = self.material.protocol()
        self._classify("raw", protocol, self.material.picture(), "image/jpeg", _has_predictions)

    @task(1)
    def form(self) -> None:
        """Send one picture or two as parts of a form, as ``curl -F`` does."""
        protocol, count = self.material.protocol(), random.choice((1, 2))  # noqa: S311
        parts = [("image", ("picture", self.material.picture())) for _ in range(count)]
        body, content_type = encode_multipart_formdata(parts)
        check = _has_predictions if count == 1 else _has_two
        self._classify(f"form of {count}", protocol, body, content_type, check)

    def _classify(
        self, way: str, protocol: str, body: bytes, content_type: str, check: Callable[[Any], bool]
    ) -> None:
        query = {"model": self.material.options.model, "protocol": protocol, "top_k": CLASSES}
        path = f"/classify?{urlencode(query)}"
        self.ask(path, f"/classify {way} {protocol}", body, check, Content_Type=content_type)


class OipClassifier(_HttpUser):
    """The Open Inference Protocol: mostly binary, as its clients send it, else JSON."""

    @task(3)
    def binary(self) -> None:
        """Send the picture behind the JSON; the outputs come behind the answer's JSON."""
        data = prefixed(self.material.picture())
        image = {"parameters": {"binary_data_size": len(data)}}
        text, protocol = self._request(image, binary_data_output=True)
        length = {"Inference_Header_Content_Length": str(len(text))}
        self._infer(f"binary {protocol}", text + data, **length)

    @task(1)
    def in_json(self) -> None:
        """Send the picture as base64 in the JSON."""
        data = base64.b64encode(self.material.picture()).decode()
        text, protocol = self._request({"data": [data]})
        self._infer(f"json {protocol}", text, Content_Type="application/json")

    def _request(self, image: dict[str, Any], **parameters: object) -> tuple[bytes, str]:
        protocol = self.material.protocol()
        parameters |= {"protocol": protocol, "top_k": CLASSES}
        image = {"name": "image", "datatype": "BYTES", "shape": [1], **image}
        return json.dumps({"parameters": parameters, "inputs": [image]}).encode(), protocol

    def _infer(self, way: str, body: bytes, **headers: str) -> None:
        path = f"/v2/models/{self.material.options.model}.topk/infer"
        self.ask(path, f"/v2 infer {way}", body, _has_outputs, **headers)


def prefixed(picture: bytes) -> bytes:
    """Return an element of BYTES, with its length before it."""
    return struct.pack("<I", len(picture)) + picture


def _has_predictions(reply: Any) -> bool:
    return bool(reply.json().get("predictions"))


def _has_two(reply: Any) -> bool:
    return [bool(r.get("predictions")) for r in reply.json()["results"]] == [True, True]


def _has_outputs(reply: Any) -> bool:
    return b'"outputs"' in reply.content
