"""Label files as tools, gists and model cards write them: read as they are meant, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from export.errors import ExportError
from export.spec import Label
from export.zoo import label_file

NAMES = [f"thing {i}, also thing'{i}" for i in range(10)]
SHORT = [f"thing {i}" for i in range(10)]
SYNSETS = [f"n{i + 1440764:08d}" for i in range(10)]
PLAIN = [Label(i, "", name) for i, name in enumerate(NAMES)]
BRIEF = [Label(i, "", name) for i, name in enumerate(SHORT)]
FULL = [Label(i, *both) for i, both in enumerate(zip(SYNSETS, NAMES, strict=True))]
BOTH = list(zip(SYNSETS, NAMES, strict=True))


def lines(form: str, names: list[str] = NAMES, first: int = 0) -> str:
    rows = zip(range(first, 10 + first), SYNSETS, names, strict=True)
    return "\n".join(form.format(i=i, synset=synset, name=name) for i, synset, name in rows)


FORMS: dict[str, tuple[str, list[Label]]] = {
    "names": (lines("{name}"), PLAIN),
    "synsets": (lines("{synset} {name}"), FULL),
    "tabs": (lines("{synset}\t{name}"), FULL),
    "numbers": (lines("{i} {name}"), PLAIN),
    "numbers and colons": (lines("{i}: {name}"), PLAIN),
    "numbers and commas": (lines("{i},{name}", SHORT), BRIEF),
    "numbers, commas and quotes": (lines('{i},"{name}"'), PLAIN),
    "numbers and arrows": (lines("{i} -> {name}"), PLAIN),
    "numbers and dashes": (lines("{i} - {name}"), PLAIN),
    "numbers and bars": (lines("{i}|{name}"), PLAIN),
    "numbers behind commas": (lines("{name},{i}", SHORT), BRIEF),
    "numbers behind tabs": (lines("{name}\t{i}", SHORT, first=1), BRIEF),
    "numbers that are names": (
        "stage: 0\nstage: 1",
        [Label(0, "", "stage: 0"), Label(1, "", "stage: 1")],
    ),
    "numbers from 1": (lines("{i} {name}", first=1), PLAIN),
    "numbers and synsets": (lines("{i}\t{synset}\t{name}"), FULL),
    "synsets and numbers from 1": (lines("{synset} {i} {name}", first=1), FULL),
    "names that are numbers": (lines("{i}"), [Label(i, "", str(i)) for i in range(10)]),
    "names some of which begin with one": (
        "7 up\ncola",
        [Label(0, "", "7 up"), Label(1, "", "cola")],
    ),
    "CSV": ("index,label\n" + lines("{i},{name}", SHORT), BRIEF),
    "CSV of synsets": ("synset,label\n" + lines('{synset},"{name}"'), FULL),
    "CSV the other way round": ("Name;ID\n" + lines("{name};{i}"), PLAIN),
    "TSV": ("class_id\twnid\tname\n" + lines("{i}\t{synset}\t{name}"), FULL),
    "a dict of Python": (
        "{" + ",\n ".join(f"{i}: {n!r}" for i, n in enumerate(NAMES)) + "}",
        PLAIN,
    ),
    "a list of Python": (repr(NAMES), PLAIN),
    "JSON of Keras": (json.dumps({str(i): list(both) for i, both in enumerate(BOTH)}), FULL),
    "the same, indented": (json.dumps(dict(enumerate(BOTH)), indent=1), FULL),
    "JSON, sorted as text": (
        json.dumps({str(i): f"c{i}" for i in sorted(range(12), key=str)}),
        [Label(i, "", f"c{i}") for i in range(12)],
    ),
    "a list of JSON": (json.dumps(NAMES), PLAIN),
    "a list of JSON, one a line": ("[" + ",\n".join(map(json.dumps, NAMES)) + "]", PLAIN),
    "JSON lines": ("\n".join(json.dumps({"id": i, "name": n}) for i, n in enumerate(NAMES)), PLAIN),
    "id2label": (json.dumps({"id2label": dict(enumerate(NAMES)), "num_labels": 10}), PLAIN),
    "label2id": (json.dumps({"label2id": {n: i for i, n in enumerate(NAMES)}}), PLAIN),
    "class_indices of Keras": (json.dumps({n: i for i, n in enumerate(NAMES)}), PLAIN),
    "categories of COCO": (
        json.dumps({"categories": [{"id": i + 1, "name": n} for i, n in enumerate(NAMES)]}),
        PLAIN,
    ),
    "a list of YAML": (lines("- {name}"), PLAIN),
    "names of YAML": ("names:\n" + lines("  {i}: {name}"), PLAIN),
    "names of YOLO's YAML": (
        "nc: 2\nnames: [cat, dog]",
        [Label(0, "", "cat"), Label(1, "", "dog")],
    ),
    "names of YAML behind others": ("# ours\npath: x\nnames:\n" + lines("  {i}: {name}"), PLAIN),
    "words that YAML knows": (
        "- no\n- 1e3\n- null",
        [Label(0, "", "no"), Label(1, "", "1e3"), Label(2, "", "null")],
    ),
    "a label map": (lines("item {{ id: {i} name: '{name}' }}", SHORT, first=1), BRIEF),
    "a label map with synsets": (
        lines('item {{\n  name: "{synset}"\n  id: {i}\n  display_name: "{name}"\n}}'),
        FULL,
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_labels_are_what_the_file_means(form: str, tmp_path: Path) -> None:
    text, right = FORMS[form]
    (tmp_path / "labels").write_text(text + "\n", encoding="utf-8")
    assert label_file.read(tmp_path / "labels") == right


REFUSED = {
    "another order": (
        lines("{synset} {i} x{name}").replace(" 9 ", " 99 "),
        "class 9 has the number 99",
    ),
    "numbers that go down": ("\n".join(f"{9 - i}: c{i}" for i in range(10)), "has the number 9"),
    "a number that is missing": ("0: a\n1: b\n3: c", "class 2 has the number 3"),
    "a number twice": ("index,label\n0,a\n0,b", "class 1 has the number 0"),
    "numbers from 7": (json.dumps({"7": "a", "8": "b"}), "has the number 7"),
    "JSON that was cut off": ('{"0": "a",\n"1": "b"', "is neither"),
    "YAML that is none": ("names:\n  0: a\n 1: b", "begins as YAML"),
    "an array without its brackets": ('"a",\n"b",', "more than a name"),
    "an array whose last line has no comma": ('"a",\n"b",\n"c"', "more than a name"),
    "a list of Markdown": ("* a\n* b", "more than a name"),
    "synsets at the end": ("a n01440764\nb n01440765", "more than a name"),
    "a number missing at the end": ("0 a\n1 b\nc", "not all of its lines have a number: 'c'"),
    "numbers behind names that go down": ("a,1\nb,0", "class 1 has the number 0"),
    "HTML": ("<html>\n<body>", "more than a name"),
    "a mapping of other things": (json.dumps({"a": "b"}), "neither numbers to names"),
    "a list of lists": (json.dumps([["a", "b", "c"]]), "not a synset and a name"),
    "a list of no names": (json.dumps([None, True]), "which is no name"),
    "rows of other lengths": ("index,label\n0,a\n1,b,c", "2 cells"),
    "an item without a name": ("item { id: 1 }", "no id or no name"),
    "nesting without end": ("[" * 100_000, "is neither"),
    "an empty line": ("a\n\nb", "empty"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_what_is_no_labels_is_refused_with_what_was_seen(form: str, tmp_path: Path) -> None:
    text, words = REFUSED[form]
    (tmp_path / "labels").write_text(text, encoding="utf-8")
    with pytest.raises(ExportError, match=words):
        label_file.read(tmp_path / "labels")
