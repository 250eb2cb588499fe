"""Compressed bodies, unpacked within the limits of any body, the same on every route."""

from __future__ import annotations

import gzip
import json
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from service.transports.http.encoding import MOST_MEMBERS
from tests.harness.oip_client import HEADER
from tests.photographs import COFFEE
from tests.server import Server, serving

PICTURE = COFFEE.read_bytes()
MEGABYTE = 1_000_000
ROUTES = ("/classify?model=lenet5", "/v2/models/lenet5/infer")


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("packed"),
        zoo_default_model="lenet5",
        zoo_load="used",
        zoo_max_body_bytes=MEGABYTE,
        zoo_max_bodies_bytes=2 * MEGABYTE,
    ) as running:
        yield running


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def members(data: bytes, count: int = 3) -> bytes:
    size = len(data) // count + 1
    return b"".join(gzip.compress(data[at : at + size]) for at in range(0, len(data), size))


CODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "GZIP": ("GZIP", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "members": ("gzip", members),
    "deflate": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "identity": ("identity", bytes),
    "nothing": ("", bytes),
    "two": ("deflate, gzip", lambda data: gzip.compress(zlib.compress(data))),
    "two of a kind": ("gzip, identity, gzip", lambda data: gzip.compress(gzip.compress(data))),
}


def send(server: Server, route: str, body: bytes, coding: str, **headers: str) -> httpx.Response:
    given = {"Content-Encoding": coding, **headers}
    if route.startswith("/v2"):
        given[HEADER] = "0"
    return server.client.post(route, content=body, headers=given)


def check(reply: httpx.Response, status: int, code: str) -> str:
    assert (reply.status_code, reply.json()["code"]) == (status, code), reply.text
    return str(reply.json()["detail"])


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("kind", CODINGS)
def test_compressed_pictures(limited: Server, route: str, kind: str) -> None:
    coding, pack = CODINGS[kind]
    assert send(limited, route, pack(PICTURE), coding).status_code == 200


def test_the_answer_is_that_of_the_picture(limited: Server) -> None:
    plain = limited.classify(PICTURE).json()["predictions"]
    packed = send(limited, "/classify", gzip.compress(PICTURE), "gzip").json()["predictions"]
    assert packed == plain


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compressed_forms(limited: Server, coding: str) -> None:
    files = [("image", PICTURE), ("image", b"x")]
    form = httpx.Request("POST", limited.url, files=files)
    kind = {"Content-Type": form.headers["Content-Type"]}
    body = CODINGS[coding][1](form.read())
    first, second = send(limited, "/classify", body, coding, **kind).json()["results"]
    assert first["predictions"] == limited.classify(PICTURE).json()["predictions"]
    assert second["error"]["code"] == "unsupported_format"


@pytest.mark.needs("curl", "gzip")
def test_what_gzip_writes_and_curl_sends(limited: Server, tmp_path: Path) -> None:
    packed = tmp_path / "coffee.gz"
    packed.write_bytes(
        subprocess.run(["gzip", "-c", COFFEE], capture_output=True, check=True).stdout
    )
    command = ["curl", "-sS", "--fail", "-H", "Content-Encoding: gzip", "--data-binary"]
    done = subprocess.run(
        [*command, f"@{packed}", f"{limited.url}/classify"], capture_output=True, check=True
    )
    assert json.loads(done.stdout)["model"] == "lenet5"


@pytest.mark.parametrize("route", [*ROUTES, "/v2/repository/index"])
@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, br", "gzip, gzip, gzip", "x"])
def test_other_codings_are_told_what_there_is(limited: Server, route: str, coding: str) -> None:
    reply = send(limited, route, PICTURE, coding)
    assert "Content-Encoding" in check(reply, 415, "unsupported_encoding")
    assert reply.headers["Accept-Encoding"] == "gzip, deflate"
    assert reply.json()["request_id"] == reply.headers["X-Request-ID"]


@pytest.mark.parametrize("route", ROUTES)
def test_what_is_not_packed_so(limited: Server, route: str) -> None:
    good = gzip.compress(PICTURE)
    for body, coding, words in (
        (PICTURE, "gzip", "is no gzip"),
        (PICTURE, "deflate", "is no deflate"),
        (b"", "gzip", "truncated"),
        (b"", "deflate", "truncated"),
        (good[:-20], "gzip", "truncated"),
        (good + good[:-20], "gzip", "truncated"),
        (good + b"more", "gzip", "something follows"),
        (zlib.compress(PICTURE) * 2, "deflate", "something follows"),
        (good[:-8] + bytes(8), "gzip", "gzip"),
        (gzip.compress(b"") * (MOST_MEMBERS + 1), "gzip", f"more than {MOST_MEMBERS} members"),
    ):
        assert words in check(send(limited, route, body, coding), 400, "bad_parameter")
    assert limited.metric("zoo_body_bytes") == 0


@pytest.mark.parametrize("route", ROUTES)
def test_the_limit_holds_for_what_is_unpacked(limited: Server, route: str) -> None:
    for coding, pack in (CODINGS[kind] for kind in ("gzip", "deflate", "raw deflate", "two")):
        assert send(limited, route, pack(PICTURE + bytes(MEGABYTE - len(PICTURE))), coding)
        too_much = pack(bytes(MEGABYTE + 1))
        assert "unpacks" in check(send(limited, route, too_much, coding), 413, "body_too_large")
    twice = gzip.compress(bytes(MEGABYTE // 2 + 1)) * 2
    check(send(limited, route, twice, "gzip"), 413, "body_too_large")
    before = limited.memory()
    bomb = gzip.compress(gzip.compress(bytes(300 * MEGABYTE), 1), 1)
    check(send(limited, route, bomb, "gzip, gzip"), 413, "body_too_large")
    assert limited.memory() - before < 30e6
    assert limited.metric("zoo_body_bytes") == 0
