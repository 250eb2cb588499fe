"""Calls a server by a client that openapi-python-client has written, and prints what it got.

In a process of its own, where the package `zoo_client` can be imported: URL PICTURE.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

import attrs
from zoo_client import AuthenticatedClient, Client
from zoo_client.api.classification import classify
from zoo_client.api.health import live, oip_live, ready
from zoo_client.api.inference_protocol import (
    oip_config,
    oip_infer,
    oip_model_of_version,
    oip_server,
    oip_statistics,
)
from zoo_client.api.model_repository import oip_index
from zoo_client.api.models import get_model, list_models
from zoo_client.models import Form, OipIndexRequest, OipInput, OipRequest
from zoo_client.types import File

LITE = "efficientnet_lite0"


def main(url: str, picture: bytes) -> None:
    """Print one JSON object: by call, the class of the answer and its members."""
    client = Client(base_url=url, timeout=60)
    shown = {
        "octet-stream": classify.sync(client=client, body=file(picture), top_k=2),
        "two classes": classify.sync(client=client, body=file(picture), model="lenet5", top_k=2),
        "one in a form": classify.sync(client=client, body=Form(image=[file(picture)])),
        "form": classify.sync(client=client, body=Form(image=[file(picture), file(b"text")])),
        "no picture": classify.sync(client=client, body=file(b"text")),
        "no model": classify.sync(client=client, body=file(picture), model="nobody"),
        "models": list_models.sync(client=client),
        "model": get_model.sync(LITE, client=client),
        "unknown model": get_model.sync("nobody", client=client),
        "live": live.sync(client=client),
        "ready": ready.sync(client=client),
        "oip live": oip_live.sync(client=client),
        "server": oip_server.sync(client=client),
        "metadata": oip_model_of_version.sync(f"{LITE}.topk", "1", client=client),
        "config": oip_config.sync(f"{LITE}.tensor", client=client),
        "statistics": oip_statistics.sync(LITE, client=client),
        "infer": oip_infer.sync(f"{LITE}.topk", client=client, body=request(picture)),
        "raw": oip_infer.sync(
            LITE, client=client, body=file(picture), inference_header_content_length=0
        ),
        "bad infer": oip_infer.sync(f"{LITE}.topk", client=client, body=request(b"text")),
        "index": oip_index.sync(client=client, body=OipIndexRequest(ready=True)),
        "with a key": live.sync(client=AuthenticatedClient(base_url=url, token="x" * 16)),
    }
    json.dump({call: described(answer) for call, answer in shown.items()}, sys.stdout)


def file(data: bytes) -> File:
    """As the generated client takes what is binary."""
    return File(payload=io.BytesIO(data), file_name="picture", mime_type="image/jpeg")


def request(picture: bytes) -> OipRequest:
    """An inference in JSON."""
    data = [base64.b64encode(picture).decode()]
    return OipRequest(inputs=[OipInput(name="image", shape=[1], datatype="BYTES", data=data)])


def described(answer: Any) -> dict[str, Any]:
    """The answer's class, those of the lists in it, and everything as JSON has it."""
    if answer is None:  # its status is not in the document
        return {"type": "None"}
    lists = {
        name: [type(item).__name__ for item in value]
        for name, value in attrs.asdict(answer, recurse=False).items()
        if isinstance(value, list)
    }
    return {"type": type(answer).__name__, "lists": lists, "content": answer.to_dict()}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).read_bytes())
