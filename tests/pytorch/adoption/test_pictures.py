"""Proof pictures of a network's own domain, and networks that know few answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from export.adoption.foreign import Wishes, read
from export.adoption.original import Original, Pictures, Pixels
from export.adoption.proof import prove
from export.adoption.tail import Tail
from export.adoption.truth import Truth
from export.data import pictures
from export.data.pictures import photographs
from export.errors import ExportError, ProofFailed
from export.proof import proof
from export.proof.parity import Exported, Parity, Tolerance
from tests.pytorch.adoption.test_adopt import adopted
from tests.pytorch.adoption.test_refusals import plain, refused
from tests.pytorch.conftest import Command, read_manifest

ALIKE = Parity(
    pictures=16,
    probability_difference=0.0,
    logit_difference=0.0,
    top5_agreement=1.0,
    distinct_top5=3,
    spread=0.6,
    classes=20,
)


def narrow(file: Path, push: float) -> Path:
    """A file of 20 classes that always has the same top five, pushed ahead of the others."""
    model = onnx.load(plain(file, 20))
    ahead = np.zeros(20, np.float32)
    ahead[:5] = push
    model.graph.initializer.append(numpy_helper.from_array(ahead, "ahead"))
    model.graph.node.append(helper.make_node("Add", ["scores", "ahead"], ["end"]))
    model.graph.output[0].name = "end"
    onnx.save(model, file)
    return file


def names(folder: Path) -> Path:
    file = folder / "names.txt"
    file.write_text("".join(f"part {index}\n" for index in range(20)))
    return file


@pytest.mark.parametrize(
    ("tolerance", "spread", "failures", "remarks"),
    [
        (Tolerance(), 0.6, 1, 0),
        (Tolerance(clear=0.2), 0.6, 0, 1),
        (Tolerance(clear=0.2), 0.2, 0, 1),
        (Tolerance(clear=0.2), 0.19, 1, 0),
        (Tolerance(clear=0.2), float("nan"), 2, 0),
        (Tolerance(clear=0.2, distinct=False), 0.19, 0, 0),
    ],
)
def test_few_answers_are_a_remark_where_the_logits_differ_clearly(
    tolerance: Tolerance, spread: float, failures: int, remarks: int
) -> None:
    parity = replace(ALIKE, tolerance=tolerance, spread=spread)
    assert len(parity.failures) == failures
    assert len(parity.remarks) == remarks
    said = [*parity.failures, *parity.remarks]
    if tolerance.distinct:
        assert "16 pictures have only 3 different top fives, needed are 4" in said[-1]


def test_the_record_has_the_worst_of_all_comparisons() -> None:
    better = replace(ALIKE, distinct_top5=9, tolerance=Tolerance(clear=0.2))
    worse = replace(
        better,
        probability_difference=3e-5,
        logit_difference=4e-4,
        top5_agreement=0.9,
        distinct_top5=2,
        pictures=12,
    )
    for parities in ({"center": better, "ten_crop": worse}, {"center": worse, "ten_crop": better}):
        record = proof.record(parities, ["said before"])
        assert record.max_abs_probability_difference == 3e-5
        assert record.max_logit_difference_in_std == 4e-4
        assert (record.top5_agreement, record.distinct_top5, record.pictures) == (0.9, 2, 12)
        assert not record.passed
        assert record.remarks[0] == "said before"
        assert [remark for remark in record.remarks[1:] if "12 pictures have only 2" in remark]


def test_a_network_that_knows_few_answers_is_adopted_with_a_remark(
    export: Command, tmp_path: Path
) -> None:
    file = narrow(tmp_path / "net.onnx", 600)
    outcome = adopted(export, file, "--labels", names(tmp_path), "--activation", "softmax")
    remark = "center: 16 pictures have only 1 different top fives, needed are 4; their logits"
    assert f"remark: {remark}" in outcome.out
    record = read_manifest(tmp_path / "models" / "it" / "1").verification
    assert record is not None
    assert record.passed
    assert [line.startswith(remark) for line in record.remarks] == [True]
    shown = export("verify", "it", "--models", tmp_path / "models")
    assert f"remark: {remark}" in shown.out


def test_where_the_logits_hardly_differ_few_answers_are_refused(
    export: Command, tmp_path: Path
) -> None:
    file = narrow(tmp_path / "net.onnx", 6000)
    outcome = export(
        *("adopt", file, "--name", "it", "--preset", "torchvision", "--activation", "softmax"),
        *("--labels", names(tmp_path), "--output", tmp_path / "models"),
    )
    assert outcome.code == 1
    assert "only 1 different top fives, needed are 4: the comparison proves nothing" in (
        outcome.error
    )
    assert "--pictures FOLDER" in outcome.error


def test_pictures_of_its_own_domain(export: Command, tmp_path: Path) -> None:
    folder = tmp_path / "own" / "below"
    folder.mkdir(parents=True)
    for index, picture in enumerate(pictures.random_pictures(3).values()):
        (folder / f"{index}.png").write_bytes(picture)
    photo = Image.open(folder / "0.png").convert("RGB").resize((2000, 900))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    photo.save(folder / "turned.jpg", exif=exif)
    (folder / "notes.txt").write_text("no picture")
    found = pictures.below(tmp_path / "own")
    assert list(found) == [*(f"below/{index}.png" for index in range(7)), "below/turned.jpg"]
    outcome = adopted(export, plain(tmp_path / "net.onnx"), "--pictures", tmp_path / "own")
    assert "proved on 8 pictures" in outcome.out
    record = read_manifest(tmp_path / "models" / "it" / "1").verification
    assert record is not None
    assert record.pictures == 8


def test_many_pictures_are_chosen_evenly_and_few_are_refused(
    export: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    for index in range(40):
        Image.new("RGB", (9, 9), (index, 0, 0)).save(folder / f"{index:02}.png")
    assert list(pictures.below(folder))[::5] == ["00.png", "12.png", "25.png", "37.png"]
    (folder / "02.png").write_bytes(b"\x89PNG")
    with pytest.raises(ExportError, match=r"02\.png cannot be read"):
        pictures.below(folder)
    for file in list(folder.iterdir())[3:]:
        file.unlink()
    file = plain(tmp_path / "net.onnx")
    reason = refused(export, tmp_path, file, "--pictures", folder)
    assert "has 3 pictures, a proof needs 4 or more" in reason
    assert "there is no folder" in refused(export, tmp_path, file, "--pictures", tmp_path / "x")


class Otherwise(Original):
    """A file whose pictures are normalised otherwise than the adopted graph does."""

    off = 0.0

    def pictures(self, crops: Pixels, tremor: np.random.Generator | None = None) -> Pictures:
        moved: Pictures = np.add(super().pictures(crops, tremor), self.off, dtype=np.float32)
        return moved


@pytest.mark.parametrize(("off", "notices"), [(0.0, False), (1e-5, True)])
def test_a_gap_of_the_normalisation_is_noticed_where_rounding_would_hide_it(
    off: float, notices: bool, export: Command, tmp_path: Path
) -> None:
    file = plain(tmp_path / "net.onnx")
    model = onnx.load(file)  # its last bias is of halves: its answers are compared as such
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1000, np.float16), "half"))
    model.graph.node.append(helper.make_node("Cast", ["half"], ["single"], to=1))
    model.graph.node.append(helper.make_node("Add", ["scores", "single"], ["end"]))
    model.graph.output[0].name = "end"
    onnx.save(model, file)
    adopted(export, file)
    folder = tmp_path / "models" / "it" / "1"
    manifest = read_manifest(folder)
    original = Otherwise(read(file, Wishes()), manifest.input)
    original.off = off
    truth = Truth(original, Tail("logits", "end"), skip_first=False)
    assert truth.rounds
    some = dict(list(photographs().items())[-6:])
    exported = Exported(folder / "model.onnx", manifest)
    if notices:
        with pytest.raises(ProofFailed, match="normalised otherwise than for the file"):
            prove(truth, exported, some)
    else:
        assert prove(truth, exported, some)["network"].passed
