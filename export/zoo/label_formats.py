"""The forms in which tools, gists and model cards write the names of classes.

Each form is a function of the text: the labels in the order of the classes, or None where the text
has another form. Numbers that a form gives to its classes must agree with their order.
"""

from __future__ import annotations

import ast
import csv
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import yaml

from export.spec import Label

SYNSET = re.compile(r"n[0-9]{8}")
_NUMBERED = re.compile(r"([0-9]{1,9})(?:\s*(?:[-=]>|[:,;.)=|])\s*|\s+(?:[-–]\s+)?)(\S.*)")
_NUMBER_LAST = re.compile(r"(\S.*?)\s*[:,;=|\t]\s*([0-9]{1,9})")
_WITH_SYNSET = re.compile(r"(n[0-9]{8})[\s,;:]+(\S.*)")
_ITEM = re.compile(r"""(\w+)\s*:\s*(?:(-?[0-9]+)|"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)')""")
_NO_NAMES = frozenset("'\"{[<>*|=")
"""With one of these begins what is of another form than names."""
_INDEX = ("index", "id", "idx", "class_id", "class_index", "label_id", "number")
_NAME = ("label", "name", "class_name", "classname", "label_name", "display_name", "class", "title")
_SYNSETS = ("synset", "wnid", "wordnet_id", "synset_id")


class BadLabels(Exception):
    """The form is known, but what it says cannot be used; the message says why."""


def structured(text: str) -> list[Label] | None:
    """JSON, JSON lines, a literal of Python, or YAML."""
    if text[:1] in ("{", "["):
        value = _literal(text)
        if value is None:
            value = _json_lines(text)
        if value is None:
            raise BadLabels("it begins as JSON or Python do, and is neither")
        return _of_value(value)
    lines = text.splitlines()
    keyed = re.search(r"^(names|labels|classes|id2label)\s*:\s*([\[{].*)?$", text, re.M)
    if keyed or text.startswith("---") or all(line.startswith(("- ", "#")) for line in lines):
        try:
            # every scalar is read as text: a class may be called "no" or "1e3"
            return _of_value(yaml.load(text, Loader=yaml.BaseLoader))  # noqa: S506
        except (yaml.YAMLError, RecursionError) as error:
            raise BadLabels(f"it begins as YAML does, and is none: {_first(error)}") from error
    return None


def pbtxt(text: str) -> list[Label] | None:
    """TensorFlow's label maps: ``item { id: 1 name: 'tench' }``, numbered from 0 or 1."""
    if not re.match(r"item\s*\{", text):
        return None
    rows: list[tuple[Any, Any]] = []
    for body in re.split(r"item\s*\{", text)[1:]:
        found: dict[str, str] = {}
        for key, number, double, single in _ITEM.findall(body):
            found[key] = number or re.sub(r"\\(.)", r"\1", double or single)
        name = found.get("display_name") or found.get("name")
        if "id" not in found or name is None:
            raise BadLabels("an item of this label map has no id or no name")
        synset = found.get("name", "")
        rows.append((found["id"], [synset, name] if SYNSET.fullmatch(synset) else name))
    return _numbered(rows)


def table(text: str) -> list[Label] | None:
    """A CSV or TSV whose header names a column of labels."""
    lines = text.splitlines()
    for delimiter in ",\t;":
        header = [cell.strip().strip('"').lower() for cell in lines[0].split(delimiter)]
        name = _among(header, _NAME)
        if len(header) < 2 or name is None:
            continue
        number, synset = _among(header, _INDEX), _among(header, _SYNSETS)
        if number is None and synset is None:
            continue
        rows: list[tuple[Any, Any]] = []
        try:
            for row in csv.reader(lines[1:], delimiter=delimiter, strict=True):
                if len(row) != len(header):
                    raise BadLabels(f"its row {row} has not the {len(header)} cells of the header")
                place: object = len(rows) if number is None else row[number]
                rows.append((place, [row[synset], row[name]] if synset is not None else row[name]))
        except csv.Error as error:
            raise BadLabels(f"it is no CSV: {error}") from error
        return _numbered(rows)
    return None


def lines(text: str) -> list[Label]:
    """One label per line, each with or without its number and its synset."""
    given = [line.strip() for line in text.splitlines()]
    numbers, rest = _split(given, _NUMBERED)
    synsets, rest = _split(rest, _WITH_SYNSET)
    if synsets and not numbers:
        numbers, rest = _split(rest, _NUMBERED)
    if not synsets:  # some lines may have one nevertheless
        alone = [_WITH_SYNSET.fullmatch(each) for each in rest]
        synsets = [match[1] if match else "" for match in alone]
        rest = [match[2] if match else each for match, each in zip(alone, rest, strict=True)]
    names = [_unquoted(each) for each in rest]
    behind = [_NUMBER_LAST.fullmatch(name) for name in names] if not numbers else []
    bare = [match[1] for match in behind if match is not None]
    if len(set(bare)) == len(names):  # not "stage: 0" and "stage: 1"
        names, numbers = bare, [match[2] for match in behind if match is not None]
    odd = [name for name in names if name[:1] in _NO_NAMES or SYNSET.search(name)]
    if 2 * len(odd) > len(names):
        raise BadLabels(f"its lines hold more than a name: {odd[0][:60]!r}")
    some = [_NUMBERED.fullmatch(name) for name in names]
    if not numbers and sum(m is not None and int(m[1]) == n for n, m in enumerate(some)) > 1:
        without = next((name for name, m in zip(names, some, strict=True) if m is None), names[0])
        raise BadLabels(f"not all of its lines have a number: {without[:60]!r}")
    places = numbers or range(len(names))
    return _numbered(zip(places, zip(synsets, names, strict=True), strict=True))


FORMS: tuple[Callable[[str], list[Label] | None], ...] = (structured, pbtxt, table, lines)
"""In the order in which they are tried; the last one takes whatever is left."""


def _split(given: Sequence[str], pattern: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """What the pattern finds at the head of every line, and the rest; nothing if one has none."""
    found = [pattern.fullmatch(line) for line in given]
    whole = [match for match in found if match is not None]
    if len(whole) < len(given):
        return [], list(given)
    return [match[1] for match in whole], [match[2] for match in whole]


def _unquoted(name: str) -> str:
    whole = len(name) > 1 and name[0] == name[-1] == '"'
    return name[1:-1].replace('""', '"') if whole else name


def _literal(text: str) -> Any:
    """What JSON or Python would read; None where neither does."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _json_lines(text: str) -> list[Any] | None:
    try:
        return [json.loads(line) for line in text.splitlines()]
    except (ValueError, RecursionError):
        return None


def _of_value(value: Any) -> list[Label]:
    """The labels that lists and mappings hold, in any of their usual nestings."""
    if isinstance(value, Mapping):
        for key in ("id2label", "names", "labels", "classes", "categories"):
            if isinstance(value.get(key), (Mapping, list)):
                return _of_value(value[key])
        inverse = value.get("label2id", value)
        if isinstance(inverse, Mapping) and not all(_is_number(key) for key in inverse):
            if not all(_is_number(each) for each in inverse.values()):
                raise BadLabels("it maps neither numbers to names nor names to numbers")
            return _numbered(sorted(((n, name) for name, n in inverse.items()), key=_by_number))
        return _numbered(sorted(value.items(), key=_by_number))
    if isinstance(value, (list, tuple)):
        return _numbered(_placed(place, each) for place, each in enumerate(value))
    raise BadLabels("it holds neither a list nor a mapping of names")


def _placed(place: int, value: Any) -> tuple[Any, Any]:
    """A class's number and name, of an element of a list."""
    if not isinstance(value, Mapping):
        return place, value
    folded = {str(key).lower(): each for key, each in value.items()}
    keys = list(folded)
    name, number, synset = (_among(keys, names) for names in (_NAME, _INDEX, _SYNSETS))
    if name is None:
        raise BadLabels(f"class {place} has no name: {str(value)[:60]}")
    words = folded[keys[name]]
    if synset is not None:
        words = [folded[keys[synset]], words]
    return (place if number is None else folded[keys[number]]), words


def _by_number(item: tuple[Any, Any]) -> int:
    if not _is_number(item[0]):
        raise BadLabels(f"{str(item[0])[:40]!r} is no number of a class")
    return int(item[0])


def _numbered(rows: Iterable[tuple[Any, Any]]) -> list[Label]:
    """Labels by their numbers, which must go up by one, from 0 or from 1."""
    found: list[Label] = []
    first = 0
    for place, (number, value) in enumerate(rows):
        here = _by_number((number, value))
        first = here if place == 0 else first
        if first not in (0, 1) or here != first + place:
            raise BadLabels(
                f"class {place} has the number {here}: numbers must go up by one from 0 or 1, in "
                "the order of the network's outputs"
            )
        synset, name = "", value
        if isinstance(value, (list, tuple)):
            if len(value) != 2:
                raise BadLabels(f"class {place} is {str(value)[:60]}, not a synset and a name")
            synset, name = (str(each).strip() for each in value)
        elif not isinstance(value, (str, int)) or isinstance(value, bool):
            raise BadLabels(f"class {place} is {str(value)[:60]}, which is no name")
        if synset and not SYNSET.fullmatch(synset):
            raise BadLabels(f"class {place} has the synset {synset[:40]!r}, not n and 8 digits")
        found.append(Label(place, synset, str(name).strip()))
    return found


def _is_number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, str) and value.strip().isdecimal())


def _among(header: Sequence[str], names: Sequence[str]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _first(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
