"""The comparison with other servers, as far as none of them is needed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtests.harness import server
from loadtests.peers import __main__ as peers
from loadtests.peers import environments
from loadtests.peers.catalogue import PEERS, first_class, triton_first_class, triton_request
from loadtests.peers.contenders import OURS_EXACT, OURS_FAST, Contender
from loadtests.peers.measure import BEST_PEER, Rates, Tried, disagreements, rows

LITE0 = server.ROOT / "models" / "efficientnet_lite0" / "1" / "model.onnx"
VERSIONS = {"server": "x 1", "onnxruntime": "2", "pillow": "3"}


def test_triton_gets_the_picture_as_binary_tensor_data() -> None:
    head, _, body = triton_request(b"\xff\xd8picture").partition(b"\r\n\r\n")
    start, *lines = head.decode().split("\r\n")
    fields = dict(line.split(": ") for line in lines)
    assert start == "POST /v2/models/classifier/infer HTTP/1.1"
    assert int(fields["Content-Length"]) == len(body)
    length = int(fields["Inference-Header-Content-Length"])
    (tensor,) = json.loads(body[:length])["inputs"]
    assert (tensor["datatype"], tensor["shape"]) == ("BYTES", [1, 1])
    assert tensor["parameters"]["binary_data_size"] == len(body) - length
    assert body[length:] == b"\x09\x00\x00\x00\xff\xd8picture"


def test_answers_are_read() -> None:
    answer = {"predictions": [{"index": 7, "probability": 0.5}, {"index": 3, "probability": 0.1}]}
    assert first_class(json.dumps(answer).encode()) == 7
    assert first_class(json.dumps([answer]).encode()) == 7
    outputs = [{"name": "probability", "data": [0.5]}, {"name": "index", "data": [7, 3]}]
    assert triton_first_class(json.dumps({"outputs": outputs}).encode()) == 7


def test_every_peer_has_a_server_file() -> None:
    for peer in PEERS.values():
        assert server.ROOT.joinpath(*peer.module.split(".")).with_suffix(".py").is_file()


def test_other_first_classes_are_found() -> None:
    found = disagreements({"a": [1, 2, 3], "b": [1, 2, 3], "c": [1, 9, 8]}, "a")
    assert found == {"a": [], "b": [], "c": [1, 2]}


def test_the_table_has_ratios_of_the_same_round() -> None:
    contenders = [
        Contender(name, server.serving, [], first_class, VERSIONS)
        for name in (OURS_EXACT, OURS_FAST, "a", "b")
    ]
    rates: dict[str, list[float]] = {
        OURS_EXACT: [100, 50, 10],
        OURS_FAST: [200, 100, 20],
        "a": [50, 50, 4],
        "b": [80, 25, 5],
    }
    found = Rates(rates, {name: [0.01, 0.03] for name in rates})
    tried = {name: Tried([1], 2_000_000) for name in rates}
    table = {row["contender"]: row for row in rows(contenders, found, tried)}
    assert list(table) == [OURS_EXACT, OURS_FAST, "a", "b", BEST_PEER]
    assert table["a"]["fast_over_it"] == 4
    assert table[BEST_PEER]["pictures_per_s"] == 50
    assert table[BEST_PEER]["exact_over_it"] == table["a"]["exact_over_it"] == 2
    assert table[BEST_PEER]["memory_mb"] == table[BEST_PEER]["p50_ms"] == ""
    assert table["b"]["memory_mb"] == 2
    assert table["b"]["p50_ms"] == pytest.approx(20)
    assert table["b"]["server"] == "x 1"


def test_a_stamp_changes_with_the_requirements() -> None:
    assert environments.stamp_of(["a>=1"]) != environments.stamp_of(["a>=2"])


def test_what_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="has no network nobody"):
        peers.model_file(server.ROOT / "models", "nobody", "fp32")
    with pytest.raises(SystemExit, match="has no file for model int8"):
        peers.model_file(server.ROOT / "models", "lenet5", "int8")
    assert peers.model_file(server.ROOT / "models", "efficientnet_lite0", "fp32") == LITE0
