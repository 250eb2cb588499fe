from __future__ import annotations

from importlib import resources

import pytest

from export.spec import Label
from export.zoo.labels import labels, unique
from models import REPOSITORY


def test_imagenet_has_a_thousand_different_labels_and_synsets() -> None:
    classes = labels("imagenet")
    assert [label.index for label in classes] == list(range(1000))
    assert len({label.label for label in classes}) == 1000
    assert len({label.synset for label in classes}) == 1000


@pytest.mark.parametrize(
    ("index", "synset", "label"),
    [
        (0, "n01440764", "tench"),
        (134, "n02012849", "crane bird"),
        (281, "n02123045", "tabby"),
        (293, "n02130308", "cheetah"),
        (517, "n03126707", "crane"),
        (967, "n07920052", "espresso"),
        (985, "n11939491", "daisy"),
        (999, "n15075141", "toilet tissue"),
    ],
)
def test_spot_checks(index: int, synset: str, label: str) -> None:
    assert labels("imagenet")[index] == Label(index, synset, label)


def test_names_and_synsets_have_the_same_order() -> None:
    text = resources.files("timm.data._info").joinpath("imagenet_synset_to_lemma.txt")
    lemmas = dict(line.split("\t", 1) for line in text.read_text("utf-8").splitlines())
    odd = {
        label.label
        for label in labels("imagenet")
        if label.label.lower() not in lemmas[label.synset].lower().split(", ")
    }
    assert odd == {"crane bird", "maillot tank suit"}  # torchvision's own way to tell twins apart


def test_repeated_names_are_told_apart_by_their_lemmas() -> None:
    names = ["crane", "maillot", "crane"]
    lemmas = ["crane", "maillot", "crane, machine"]
    assert unique(names, lemmas) == ["crane", "maillot", "crane, machine"]
    with pytest.raises(ValueError, match="ambiguous: crane"):
        unique(["crane", "crane"], ["crane", "Crane"])


def test_digits_have_no_synsets() -> None:
    assert labels("digits") == [Label(digit, "", str(digit)) for digit in range(10)]


def test_the_committed_files() -> None:
    imagenet = (REPOSITORY / "efficientnet_lite0" / "1" / "labels.csv").read_text("utf-8")
    lines = imagenet.splitlines()
    assert (lines[0], lines[294]) == ("index,synset,label", "293,n02130308,cheetah")
    assert len(lines) == 1001
    digits = (REPOSITORY / "lenet5" / "1" / "labels.csv").read_text("utf-8")
    assert digits.splitlines()[:2] == ["index,synset,label", "0,,0"]
