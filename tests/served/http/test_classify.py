"""The service over HTTP with real pictures: what a user sees."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
from pathlib import Path
from urllib.parse import urljoin

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.photographs import CHELSEA, COFFEE, FLOWER, PHOTOGRAPHS
from tests.server import Server

STAGES = {"decode", "preprocess", "queue", "inference", "total"}


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def check_answer(answer: dict, *, model: str, protocol: str, top_k: int) -> None:
    assert set(answer) == {"model", "version", "protocol", "predictions", "timing_ms"}
    assert (answer["model"], answer["version"], answer["protocol"]) == (model, "1", protocol)
    predictions = answer["predictions"]
    assert [p["rank"] for p in predictions] == list(range(1, top_k + 1))
    for prediction in predictions:
        assert set(prediction) == {"rank", "index", "synset", "label", "probability"}
    probabilities = [p["probability"] for p in predictions]
    assert probabilities == sorted(probabilities, reverse=True)
    assert 0 <= sum(probabilities) <= 1 + 1e-5
    assert set(answer["timing_ms"]) == STAGES
    assert all(value >= 0 for value in answer["timing_ms"].values())


CURL = {
    "form": (["-F", f"image=@{CHELSEA}"], "", "center", 5),
    "raw": (["--data-binary", f"@{CHELSEA}"], "", "center", 5),
    "ten_crop": (["--data-binary", f"@{CHELSEA}"], "?protocol=ten_crop&top_k=3", "ten_crop", 3),
}


@pytest.mark.needs("curl")
@pytest.mark.parametrize("way", CURL)
def test_the_commands_of_the_readme(server: Server, way: str) -> None:
    arguments, query, protocol, top_k = CURL[way]
    command = ["curl", "-sS", "--fail", *arguments, f"{server.url}/classify{query}"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    answer = json.loads(done.stdout)
    check_answer(answer, model="efficientnet_lite0", protocol=protocol, top_k=top_k)
    assert answer["predictions"][0]["label"] in PHOTOGRAPHS[CHELSEA]


@pytest.mark.parametrize("protocol", ["center", "ten_crop"])
@pytest.mark.parametrize("path", [p for p in PHOTOGRAPHS if PHOTOGRAPHS[p]], ids=lambda p: p.name)
def test_photographs_are_recognised(server: Server, path: Path, protocol: str) -> None:
    answer = server.classify(path, protocol=protocol).json()
    check_answer(answer, model="efficientnet_lite0", protocol=protocol, top_k=5)
    assert answer["predictions"][0]["label"] in PHOTOGRAPHS[path]


def test_synsets_are_those_of_the_labels(server: Server) -> None:
    answer = server.classify(CHELSEA, top_k=1000).json()
    by_index = {p["index"]: p for p in answer["predictions"]}
    assert sorted(by_index) == list(range(1000))
    assert by_index[293]["synset"] == "n02130308"
    assert by_index[293]["label"] == "cheetah"
    assert len({p["label"] for p in answer["predictions"]}) == 1000
    assert sum(p["probability"] for p in answer["predictions"]) == pytest.approx(1, abs=1e-5)


def test_raw_and_form_give_the_same_answer(server: Server) -> None:
    raw = server.classify(COFFEE).json()
    data = COFFEE.read_bytes()
    forms = [
        server.client.post("/classify", files={"image": data}),
        server.client.post("/classify", files={"image": ("a.jpg", data, "text/plain")}),
        server.client.post("/classify", files={"image": (None, data)}),
    ]
    for content_type in ("image/png", "image/jpg", "application/json", "application/octet-stream"):
        headers = {"Content-Type": content_type}
        forms.append(server.client.post("/classify", content=data, headers=headers))
    for form in forms:
        assert form.status_code == 200, form.text
        assert form.json()["predictions"] == raw["predictions"]


def test_chunked_bodies_are_read(server: Server) -> None:
    data = COFFEE.read_bytes()
    pieces = (data[i : i + 1000] for i in range(0, len(data), 1000))
    answer = server.client.post("/classify", content=pieces).json()
    assert answer["predictions"][0]["label"] == "espresso"


def test_several_pictures_and_one_bad(server: Server) -> None:
    parts = [
        CHELSEA.read_bytes(),
        b"not a picture",
        FLOWER.read_bytes(),
        CHELSEA.read_bytes()[:999],
    ]
    reply = server.client.post("/classify", files=[("image", part) for part in parts])
    assert reply.status_code == 200
    cat, garbage, daisy, truncated = reply.json()["results"]
    check_answer(cat, model="efficientnet_lite0", protocol="center", top_k=5)
    assert cat["predictions"][0]["label"] in PHOTOGRAPHS[CHELSEA]
    assert daisy["predictions"][0]["label"] == "daisy"
    assert garbage["error"]["code"] == "unsupported_format"
    assert truncated["error"]["code"] == "undecodable_picture"


def test_an_odd_file_gets_the_answer_of_its_pixels(server: Server) -> None:
    cat = Image.open(CHELSEA).convert("RGB")
    plain = io.BytesIO()
    cat.save(plain, "JPEG")
    jpeg, still, moving = plain.getvalue(), png(cat), io.BytesIO()
    frames = [cat.quantize(64), cat.rotate(90).quantize(64)]
    frames[0].save(moving, "GIF", save_all=True, append_images=frames[1:])
    gif = moving.getvalue()
    bomb = (b"\xff\xe1\x0c\xe4Exif\0\0" + bytes(3292)) * 9000  # took a minute of each thread
    text = b"\0\x10\0\x04zTXta\0\7" + bytes((1 << 20) + 5)  # too large, and its checksum is wrong
    odd = {
        "JPEG": (jpeg, jpeg[:2] + bomb + jpeg[2:]),
        "PNG": (still, still[:33] + text + still[33:-12]),
        "GIF": (png(frames[0].convert("RGB")), gif[: gif.rindex(b"!\xf9\4") + 100]),
    }
    for kind, (usual, file) in odd.items():
        answers = [server.classify(data).json() for data in (usual, file)]
        assert answers[0]["predictions"] == answers[1]["predictions"], kind


def test_exif_is_applied_unless_ignored(server: Server) -> None:
    upright = Image.open(FLOWER).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(buffer, "PNG", exif=exif)
    turned = buffer.getvalue()
    reference = server.classify(png(upright)).json()["predictions"]
    assert server.classify(turned).json()["predictions"] == reference
    assert server.classify(turned, exif="apply").json()["predictions"] == reference
    ignored = server.classify(turned, exif="ignore").json()["predictions"]
    as_stored = server.classify(png(upright.transpose(Image.Transpose.ROTATE_90))).json()
    assert ignored == as_stored["predictions"] != reference


def test_lenet5_reads_digits(server: Server) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    right = 0
    for image, target in zip(digits.images[:60], digits.target[:60], strict=True):
        picture = Image.fromarray((image * 255 / 16).round().astype(np.uint8))
        answer = server.classify(png(picture), model="lenet5", top_k=1).json()
        check_answer(answer, model="lenet5", protocol="center", top_k=1)
        assert answer["predictions"][0]["synset"] is None
        right += answer["predictions"][0]["label"] == str(target)
    assert right >= 57


def test_models(server: Server) -> None:
    listed = server.client.get("/models").json()
    assert listed["default"] == "efficientnet_lite0"
    assert [(m["name"], m["version"], m["state"]) for m in listed["models"]] == [
        ("efficientnet_lite0", "1", "ready"),
        ("lenet5", "1", "ready"),
    ]
    one = server.client.get("/models/efficientnet_lite0").json()
    assert one["classes"] == 1000
    assert one["input"] == [224, 224, 3]
    assert one["protocols"] == ["center", "ten_crop", "crops_144"]
    assert one["providers"] == ["cpu"]
    assert one["manifest"]["weights"]["licence"] == "Apache-2.0"
    assert one["manifest"]["verification"]["passed"] is True
    assert server.client.get("/models/lenet5?version=1").json()["input"] == [32, 32, 1]
    for path in ("/models/vgg99", "/models/lenet5?version=7"):
        reply = server.client.get(path)
        assert (reply.status_code, reply.json()["code"]) == (404, "unknown_model")


def test_probes(server: Server) -> None:
    assert server.client.get("/livez").status_code == 200
    ready = server.client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json() == {
        "status": "ready",
        "models": ["efficientnet_lite0/1", "lenet5/1"],
        "refused": [],
    }


def test_the_request_id_is_taken_or_made(server: Server) -> None:
    given = server.client.get("/livez", headers={"X-Request-ID": "abc-123"})
    assert given.headers["X-Request-ID"] == "abc-123"
    made = [server.client.get("/livez").headers["X-Request-ID"] for _ in range(2)]
    assert made[0] != made[1]
    hostile = server.client.get("/livez", headers={"X-Request-ID": "a b\tc" + "x" * 500})
    assert hostile.headers["X-Request-ID"] != "a b\tc" + "x" * 500
    reply = server.client.post("/classify", content=b"?", headers={"X-Request-ID": "my-fault"})
    assert reply.json()["request_id"] == reply.headers["X-Request-ID"] == "my-fault"
    assert "code=unsupported_format" in server.logged("request_id=my-fault")


def test_the_page_of_the_documentation_needs_nothing_from_elsewhere(server: Server) -> None:
    page = server.client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "http" not in page.text.replace("https://www.w3.org", "")
    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png"):
        assert f"docs/static/{name}" in page.text
        asset = server.client.get(f"/docs/static/{name}")
        assert asset.status_code == 200
        assert len(asset.content) > 100
    for name in ("index.html", "..%2f..%2f__init__.py", "nothing.js"):
        assert server.client.get(f"/docs/static/{name}").status_code == 404


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def test_a_browser_is_led_to_the_page(server: Server) -> None:
    for path, prefix in (("/", ""), ("/docs/", ""), ("/", "/zoo"), ("/docs/", "/zoo")):
        reply = server.client.get(path, headers={"Accept": BROWSER})
        assert reply.status_code == 307
        # a gateway that takes a prefix off sends the client's own URL nowhere else
        target = urljoin(f"http://gateway{prefix}{path}", reply.headers["Location"])
        assert target == f"http://gateway{prefix}/docs"
    assert reply.headers["X-Request-ID"]
    found = server.client.get("/", headers={"Accept": BROWSER}, follow_redirects=True)
    assert found.url.path == "/docs"
    assert "swagger-ui" in found.text
    assert server.client.head("/docs/").status_code == 307


@pytest.mark.parametrize(
    "accept", ["*/*", "application/json", "text/*", "text/html;q=0, */*", "text/htmlx", ""]
)
def test_other_clients_find_nothing_at_the_root(server: Server, accept: str) -> None:
    reply = server.client.get("/", headers={"Accept": accept})
    assert (reply.status_code, reply.json()["code"]) == (404, "not_found")
    assert reply.headers["Vary"] == "Accept"


async def test_200_requests_at_once_each_get_their_own_answer(server: Server) -> None:
    generator = np.random.default_rng(7)
    base = [Image.open(path).convert("RGB") for path in PHOTOGRAPHS]
    pictures = []
    for number in range(200):
        image = base[number % len(base)].resize((320, 280))
        box = generator.integers(0, 60, 2)
        pictures.append(png(image.crop((box[0], box[1], box[0] + 250, box[1] + 215))))

    async def ask(client: httpx.AsyncClient, picture: bytes) -> list[dict]:
        reply = await client.post("/classify", content=picture)
        assert reply.status_code == 200, reply.text
        return reply.json()["predictions"]

    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as client:
        together = await asyncio.gather(*(ask(client, picture) for picture in pictures))
        alone = [await ask(client, picture) for picture in pictures]
    assert len({json.dumps(answer) for answer in alone}) > 150
    for one, other in zip(together, alone, strict=True):
        assert [p["index"] for p in one] == [p["index"] for p in other]
        np.testing.assert_allclose(
            [p["probability"] for p in one], [p["probability"] for p in other], atol=1e-5
        )
