"""Ensembles: a manifest that names its members, from the command line or from a recipe."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from export.errors import ExportError, NotBuilt
from export.versions import built
from export.versions.publish import destination, publish, workshop
from service.errors import BadParameter
from service.imaging.protocols import PROTOCOLS
from service.manifest import FILE_NAME, EnsembleManifest, Label, Manifest, Member, RefusedModelError
from service.repository import versions_on_disk

RECIPES = Path(__file__).parent / "ensembles"
"""One file per competition entry: an ensemble's manifest but for its classes."""

_MEMBER = re.compile(
    r"(?P<model>[^@:]+)(@(?P<version>[^@:]+))?(:(?P<protocol>[^@:]+)(:(?P<weight>[^@:]+))?)?"
)


def parse_member(text: str) -> Member:
    """``MODEL[@VERSION][:PROTOCOL[:WEIGHT]]``. Raises ExportError."""
    match = _MEMBER.fullmatch(text)
    if match is None:
        raise ExportError(f"member {text!r} is not MODEL[@VERSION][:PROTOCOL[:WEIGHT]]")
    given = {key: value for key, value in match.groupdict().items() if value is not None}
    try:
        return Member.model_validate(given)
    except ValidationError as invalid:
        error = invalid.errors()[0]
        raise ExportError(f"member {text!r}: {error['loc'][0]}: {error['msg']}") from invalid


def recipes() -> list[str]:
    """The names of the recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.json"))


def recipe(name: str) -> dict[str, object]:
    """The content of a recipe. Raises ExportError when there is none of that name."""
    if name not in recipes():
        raise ExportError(
            f"there is no recipe {name!r} (there are: {', '.join(recipes())}); "
            "name the members with --member"
        )
    content: dict[str, object] = json.loads((RECIPES / f"{name}.json").read_text("utf-8"))
    return content


def build(
    name: str, members: Sequence[Member], *, models: Path, version: str = "1", force: bool = False
) -> EnsembleManifest:
    """Write the ensemble ``name`` of these members, or of its recipe where none are given.

    Every member must be built in ``models``, be able to do its protocol, and have the same labels
    as the first. Raises ExportError; nothing is written then.
    """
    content = (
        {"description": f"{len(members)} networks", "members": members} if members else recipe(name)
    )
    target = destination(models, name, version, force=force)
    try:
        draft = EnsembleManifest.model_validate(
            {**content, "kind": "ensemble", "name": name, "version": version, "classes": 1}
        )
    except ValidationError as invalid:
        error = invalid.errors()[0]
        place = ".".join(str(part) for part in error["loc"])
        raise ExportError(f"ensemble {name!r}: {place}: {error['msg']}") from invalid
    first, *others = [_labels(models, member) for member in draft.members]
    for member, labels in zip(draft.members[1:], others, strict=True):
        if labels != first:
            raise ExportError(
                f"the labels of {member.model} are not those of {draft.members[0].model}"
            )
    manifest = draft.model_copy(update={"classes": len(first)})
    with workshop(models) as folder:
        text = manifest.model_dump_json(indent=2) + "\n"
        (folder / FILE_NAME).write_text(text, encoding="utf-8")
        publish(folder, target)
    return manifest


def _labels(models: Path, member: Member) -> list[Label]:
    """The labels of a member that is there and can do its protocol. Raises ExportError."""
    known = built.versions(models, member.model)
    version = member.version or (known[-1] if known else "1")
    found = versions_on_disk.Version(member.model, version, models / member.model / version)
    if version not in known:
        raise NotBuilt(f"member {member.model} version {version} is not in {models}")
    try:
        manifest = versions_on_disk.read(found)
        if not isinstance(manifest, Manifest):
            raise ExportError(f"member {member.model} is itself an ensemble")
        if member.protocol not in (None, *manifest.protocols.names):
            raise ExportError(
                f"member {member.model} cannot do {member.protocol}: "
                f"it can do {', '.join(manifest.protocols.names)}"
            )
        if member.scales:
            chosen = PROTOCOLS[member.protocol or manifest.protocols.default]
            chosen.rescaled(manifest, member.scales)
        versions_on_disk.check_files(found.path, manifest)
        return versions_on_disk.labels(found.path, manifest)
    except BadParameter as error:
        raise ExportError(f"member {member.model}: {error.detail}") from error
    except RefusedModelError as error:
        raise NotBuilt(f"member {member.model} version {version}: {error}") from error
