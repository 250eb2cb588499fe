"""`export evaluate`: in process and over HTTP, resumed, with unreadable files, on real digits."""

from __future__ import annotations

import csv
import io
import os
import shutil
import signal
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from export.data import dataset
from export.data.dataset import Classes, DatasetRefused
from export.evaluation import report
from export.evaluation.report import Rate
from service.manifest import Label
from service.repository.versions_on_disk import Version, labels
from tests.harness.copies import copy_of
from tests.harness.edited_versions import network_manifest
from tests.paths import ROOT
from tests.photographs import CHINA, COFFEE, FLOWER, ROCKET
from tests.pytorch.conftest import Command
from tests.server import Server, serving

IMAGENET = ROOT / "models" / "efficientnet_lite0" / "1"


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 digits in class folders; five of them in the wrong one, two that are no pictures."""
    folder = tmp_path_factory.mktemp("digits")
    data = load_digits()
    for number in range(100):
        target = int(data.target[number])
        label = (target + 1) % 10 if number % 20 == 0 else target
        (folder / str(label)).mkdir(exist_ok=True)
        picture = Image.fromarray((data.images[number] * 255 / 16).round().astype(np.uint8))
        (folder / str(label) / f"{number}.png").write_bytes(png(picture))
    (folder / "3" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (folder / "4" / "text.jpg").write_text("not a picture")
    for name in ("4/a.tif", "4/b.TIF", "README.txt"):
        (folder / name).write_bytes(b"II*")
    return folder


@pytest.fixture
def run(export: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run ``python -m export evaluate ARGUMENTS`` in this process."""
    monkeypatch.chdir(ROOT)
    return partial(export, "evaluate")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("way", ["in process", "over HTTP"])
def test_digits(digits: Path, tmp_path: Path, server: Server, way: str, run: Command) -> None:
    where = ["--server", server.url] if way == "over HTTP" else []
    done = run("lenet5", "--data", digits, "--output", tmp_path / "out", *where)
    assert (done.code, done.err) == (0, "")
    assert "published" in done.out
    assert "2 pictures without an answer" in done.out
    summary = rows(tmp_path / "out" / "summary.csv")
    assert [summary[0][name] for name in ("what", "protocol", "pictures")] == [
        *("measured", "center", "100")
    ]
    assert 5 <= float(summary[0]["top1_error"]) <= 8
    assert 1 < float(summary[0]["top1_low95"]) < 5 < float(summary[0]["top1_high95"]) < 20
    per_class = rows(tmp_path / "out" / "per_class.csv")
    assert sum(int(row["pictures"]) for row in per_class) == 100  # what the intervals are of
    assert [row["unanswered"] for row in per_class[3:5]] == ["1", "1"]
    assert "3 files are passed over" in done.out
    assert "2 .tif, 1 .txt" in done.out
    assert [row["label"] for row in per_class] == [str(digit) for digit in range(10)]
    unanswered = rows(tmp_path / "out" / "unanswered.csv")
    assert [row["picture"] for row in unanswered] == ["3/broken.png", "4/text.jpg"]
    plot = Image.open(tmp_path / "out" / "confusion.png")
    assert min(plot.size) > 200


def test_a_run_that_was_broken_off_goes_on(digits: Path, tmp_path: Path, run: Command) -> None:
    out = tmp_path / "out"
    assert run("lenet5", "--data", digits, "--output", out).code == 0
    whole = (out / "answers.csv").read_text()
    lines = whole.splitlines(keepends=True)
    (out / "answers.csv").write_text("".join(lines[:42]) + lines[42][:3])  # cut within a line
    summary = (out / "summary.csv").read_text()
    done = run("lenet5", "--data", digits, "--output", out)
    assert "resuming after 40 of 102 pictures" in done.out
    assert sorted((out / "answers.csv").read_text().splitlines()) == sorted(whole.splitlines())
    assert (out / "summary.csv").read_text() == summary
    other = run("efficientnet_lite0", "--data", digits, "--output", out)
    assert other.code == 2
    assert "another evaluation" in other.err


def test_photographs_by_list(tmp_path: Path, run: Command) -> None:
    for number, path in enumerate((COFFEE, FLOWER, CHINA), start=1):
        picture = Image.open(path).convert("RGB")
        (tmp_path / f"{number}.png").write_bytes(png(picture))
    (tmp_path / "val.txt").write_text("1.png 967\n2.png n11939491\n3.png volcano\n")
    done = run(
        *("efficientnet_lite0", "--data", tmp_path, "--list", tmp_path / "val.txt"),
        *("--protocol", "ten_crop", "--output", tmp_path / "out"),
    )
    assert (done.code, done.err) == (0, "")
    (measured, *published) = rows(tmp_path / "out" / "summary.csv")
    assert (measured["protocol"], measured["pictures"]) == ("ten_crop", "3")
    assert (measured["top1_error"], measured["top5_error"]) == ("33.33", "33.33")
    assert published[0]["top1_error"] == "24.90"


def first_classes(folder: Path) -> list[int]:
    lines = (folder / "answers.csv").read_text().splitlines()[1:]
    return [int(row["best"].split()[0]) for row in csv.DictReader(lines)]


def test_it_measures_what_serving_answers(tmp_path: Path, server: Server, run: Command) -> None:
    """A photograph upside down, which its Exif says: served upright, trained as it lies."""
    data = tmp_path / "data" / "missile"
    data.mkdir(parents=True)
    turned, exif = Image.open(ROCKET).convert("RGB").rotate(180), Image.Exif()
    exif[0x0112] = 3
    turned.save(data / "turned.jpg", quality=95, exif=exif)
    (served,) = server.classify(data / "turned.jpg", top_k=1).json()["predictions"]
    found = {}
    for rule in (None, "apply", "ignore"):
        for where in ([], ["--server", server.url]):
            out = tmp_path / f"{rule}{len(where)}"
            given = [] if rule is None else ["--exif", rule]
            arguments = ["--data", tmp_path / "data", "--output", out, *where, *given]
            done = run("efficientnet_lite0", *arguments)
            assert (done.code, done.err) == (0, "")
            found[rule, bool(where)] = first_classes(out)[0]
    assert {found[rule, where] for rule in (None, "apply") for where in (True, False)} == {
        served["index"]
    }
    assert found["ignore", True] == found["ignore", False] != served["index"]


def test_a_version_and_a_precision_can_be_named(
    digits: Path, tmp_path: Path, server: Server, run: Command
) -> None:
    for number in ("1", "2"):
        copy_of("lenet5", tmp_path / "models", "lenet5", number)
    data = ["--data", digits, "--models", tmp_path / "models"]
    done = run("lenet5", *data, "--version", "1", "--precision", "fp32", "--output", tmp_path / "1")
    assert (done.code, done.err) == (0, "")
    head = (tmp_path / "1" / "answers.csv").read_text().splitlines()[0]
    assert head == "# lenet5 version 1 protocol center exif apply precision fp32"
    for arguments, words in (
        (["--version", "3"], "lenet5 has no version 3; it has 1, 2"),
        (["--version", "latest"], "'latest' is no version"),
        (["--precision", "int8"], "int8 is asked for"),
        (["--precision", "int8", "--server", server.url], "computes lenet5 in fp32, not int8"),
        (["--version", "7", "--server", server.url], "version"),
    ):
        failed = run("lenet5", *data, *arguments, "--output", tmp_path / "none")
        assert failed.code == 2
        assert words in failed.error


def test_a_service_with_keys(digits: Path, tmp_path: Path, run: Command) -> None:
    key = "a-key-of-some-length"
    with serving(tmp_path, zoo_api_keys=key, zoo_load="used", zoo_default_model="lenet5") as closed:
        given = ["lenet5", "--data", digits, "--server", closed.url, "--output", tmp_path / "out"]
        assert "key" in run(*given).error
        assert run(*given, "--key", key).code == 0


def test_ctrl_c_says_that_it_can_go_on(digits: Path, tmp_path: Path, run: Command) -> None:
    data = tmp_path / "data"
    shutil.copytree(digits, data)
    os.mkfifo(data / "9" / "zz.png")  # it is waited for until the interrupt has come
    answers = tmp_path / "out" / "answers.csv"
    over = threading.Event()

    def interrupt() -> None:
        while not answers.exists() or len(answers.read_text().splitlines()) < 20:
            if over.wait(0.01):
                return  # it ended without: the test fails, and does not hang
        os.kill(os.getpid(), signal.SIGINT)
        os.close(os.open(data / "9" / "zz.png", os.O_RDWR))  # ends who reads there, if anybody does

    thread = threading.Thread(target=interrupt)
    # where tests run in the background of a script, Ctrl-C is ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread.start()
    try:
        done = run("lenet5", "--data", data, "--output", tmp_path / "out")
    finally:
        over.set()
        thread.join()
        signal.signal(signal.SIGINT, before)
    assert done.code == 130
    assert "the same command goes on where it stopped" in done.error


REFUSED = {
    "no folder": (["lenet5", "--data", "nowhere"], "no folder"),
    "no classes": (["lenet5", "--data", "service"], "no class"),
    "no model": (["vgg99", "--data", "service"], "no model vgg99"),
    "no service": (
        ["lenet5", "--data", "service", "--server", "http://127.0.0.1:9"],
        "does not answer",
    ),
    "no list": (["lenet5", "--data", "service", "--list", "nowhere"], "cannot be read"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refusals_are_one_line(kind: str, tmp_path: Path, run: Command) -> None:
    arguments, words = REFUSED[kind]
    done = run(*arguments, "--output", tmp_path / "out")
    assert done.code == 2
    assert words in done.error


def test_a_protocol_the_model_cannot_do(digits: Path, tmp_path: Path, run: Command) -> None:
    done = run("lenet5", "--data", digits, "--protocol", "ten_crop", "--output", tmp_path / "out")
    assert done.code == 2
    assert "center" in done.err


@pytest.fixture(scope="module")
def imagenet() -> Classes:
    manifest = network_manifest(Version("efficientnet_lite0", "1", IMAGENET))
    return Classes(labels(IMAGENET, manifest))


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("n02130308", 293),
        ("293", 293),
        ("cheetah", 293),
        ("Cheetah", 293),
        ("great_white_shark", 2),
        ("Great White Shark", 2),
        ("Cardigan", 264),  # the dog
        ("cardigan", 474),  # the garment
        ("CARDIGAN", None),
        ("1000", None),
        ("-1", None),
        ("n00000000", None),
        ("", None),
    ],
)
def test_names_of_classes(imagenet: Classes, text: str, index: int | None) -> None:
    assert imagenet.index(text) == index


def test_the_ground_truth_of_the_kit(tmp_path: Path) -> None:
    classes = Classes([Label("n1", "cat"), Label("n2", "dog"), Label("n3", "owl")])
    for name in ("b.JPEG", "a.JPEG", "c.JPEG"):
        (tmp_path / name).write_bytes(b"x")
    truth, ids = tmp_path / "truth.txt", tmp_path / "ids.txt"
    truth.write_text("3\n1\n2\n")
    ids.write_text("n2 dog\nn3\nn1 cat\n")
    with pytest.raises(DatasetRefused, match="--id-synsets"):
        dataset.from_list(tmp_path, truth, classes)
    samples = dataset.from_list(tmp_path, truth, classes, ids)
    assert [(s.name, s.target) for s in samples] == [("a.JPEG", 0), ("b.JPEG", 1), ("c.JPEG", 2)]
    truth.write_text("3\n1\n")
    with pytest.raises(DatasetRefused, match="3 pictures"):
        dataset.from_list(tmp_path, truth, classes, ids)
    for wrong in (0, 4):  # 0 is not the last synset
        truth.write_text(f"3\n1\n{wrong}\n")
        with pytest.raises(DatasetRefused, match="1 to 3"):
            dataset.from_list(tmp_path, truth, classes, ids)


def test_lists_stay_in_their_folder(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("../../etc/passwd 1\n")
    with pytest.raises(DatasetRefused, match="outside"):
        dataset.from_list(tmp_path, tmp_path / "list.txt", Classes([Label(None, "0")] * 2))


def test_the_interval_is_wilsons() -> None:
    # Brown, Cai and DasGupta 2001: exact values of the score interval
    assert Rate(0, 10).interval == pytest.approx((0.0, 27.753), abs=1e-3)
    assert Rate(5, 10).interval == pytest.approx((23.659, 76.341), abs=1e-3)
    assert Rate(12450, 50000).interval == pytest.approx((24.523, 25.281), abs=2e-3)
    assert str(Rate(1, 4)).startswith("25.00 % [")
    assert report.Rate(0, 0).percent != 0
