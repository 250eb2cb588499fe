"""What is installed everywhere is what requirements/*.lock pin, for every Python that is promised.

All of it is read from files and from what is installed: no index is asked. `make lock` renews them.
"""

from __future__ import annotations

import itertools
import re
from functools import cache
from importlib import metadata
from typing import NamedTuple

import pytest
import yaml
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.paths import ROOT
from tests.unit.house.test_packaging import PROJECT

FOLDER = ROOT / "requirements"
CPU = ("cpu", "fast", "tracing")
EXTRAS = {
    "serve": CPU,
    "gpu": ("gpu", "fast", "tracing"),
    "test": (*CPU, "openvino", "export", "load", "dev"),
    "locust": ("load",),
}
"""Of pyproject.toml, beside its dependencies, by lock."""
LOCKS = (*EXTRAS, "clients")
PYTHONS = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
MACHINES = (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"))

everywhere = pytest.mark.parametrize("lock", LOCKS)


class Pin(NamedTuple):
    requirement: Requirement
    hashes: int

    @property
    def version(self) -> Version:
        (pinned,) = self.requirement.specifier
        assert pinned.operator == "==", self.requirement
        return Version(pinned.version)


@cache
def pins(lock: str) -> dict[str, list[Pin]]:
    """By package."""
    text = (FOLDER / f"{lock}.lock").read_text().replace("\\\n", " ")
    found: dict[str, list[Pin]] = {}
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            requirement, *hashes = line.split(" --hash=sha256:")
            pin = Pin(Requirement(requirement), len(hashes))
            found.setdefault(canonicalize_name(pin.requirement.name), []).append(pin)
    return found


def wanted(lock: str) -> list[Requirement]:
    """What a lock is made of."""
    if lock == "clients":
        lines = (ROOT / "tests/clients/requirements.txt").read_text().splitlines()
        return [Requirement(line) for line in lines if line and not line.startswith("#")]
    extras = PROJECT["optional-dependencies"]
    named = [*PROJECT["dependencies"], *(each for name in EXTRAS[lock] for each in extras[name])]
    if lock == "gpu":
        named += [line for line in lines_of("cuda.in") if not line.startswith("#")]
    return [Requirement(each) for each in named]


def lines_of(name: str) -> list[str]:
    return (FOLDER / name).read_text().splitlines()


class Place(NamedTuple):
    """A Python on a machine."""

    python: str
    system: str
    machine: str

    def environment(self) -> dict[str, str]:
        """Of it, for markers."""
        return {
            **{name: str(value) for name, value in default_environment().items()},
            "python_version": self.python,
            "python_full_version": self.full,
            "implementation_version": self.full,
            "sys_platform": self.system,
            "platform_system": self.system.title(),
            "platform_machine": self.machine,
        }

    @property
    def full(self) -> str:
        return f"{self.python}.7"


PLACES = [Place(python, *machine) for python in PYTHONS for machine in MACHINES]


@cache
def applies(marker: str, place: Place, extra: str = "") -> bool:
    return not marker or Marker(marker).evaluate({**place.environment(), "extra": extra})


@cache
def chosen(lock: str, place: Place) -> dict[str, list[Version]]:
    """What a lock installs there, by package."""
    found = {
        name: [pin.version for pin in each if applies(str(pin.requirement.marker or ""), place)]
        for name, each in pins(lock).items()
    }
    return {name: versions for name, versions in found.items() if versions}


def test_every_python_is_declared_and_no_other() -> None:
    assert PYTHONS == ["3.11", "3.12", "3.13", "3.14"]
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
    script = (FOLDER / "lock.sh").read_text()
    assert f"pythons=({' '.join(PYTHONS)})" in script
    assert f"Python {PYTHONS[0]} or newer" in (ROOT / "README.md").read_text()


@everywhere
def test_whatever_is_asked_for_has_one_pin_that_satisfies(lock: str) -> None:
    for place in PLACES:
        for each in wanted(lock):
            if applies(str(each.marker or ""), place):
                versions = chosen(lock, place).get(canonicalize_name(each.name), [])
                assert len(versions) == 1, (str(each), place, "run make lock")
                assert versions[0] in each.specifier, (str(each), "run make lock")


@pytest.mark.parametrize("lock", EXTRAS)
def test_nothing_is_pinned_for_what_is_no_longer_asked_for(lock: str) -> None:
    """uv notes for whom each pin is."""
    text = (FOLDER / f"{lock}.lock").read_text()
    ours = re.findall(
        r"^([\w-]+)==(?:.*\n)(?: +--hash.*\n)* +# via .*\(pyproject\.toml\)", text, re.M
    )
    named = {canonicalize_name(each.name) for each in wanted(lock)}
    assert set(ours) == named, "run make lock"


@everywhere
def test_no_package_has_two_pins_at_once(lock: str) -> None:
    for place in PLACES:
        twice = {name: each for name, each in chosen(lock, place).items() if len(each) > 1}
        assert not twice, place


@pytest.mark.parametrize("lock", EXTRAS)
def test_what_installed_packages_need_is_pinned_too(lock: str) -> None:
    for place in PLACES:
        there = chosen(lock, place)
        for name, versions in there.items():
            if versions == [installed(name)]:
                for need in needs(name):
                    if applies(str(need.marker or ""), place):
                        assert canonicalize_name(need.name) in there, (name, str(need), place)


@cache
def needs(name: str) -> list[Requirement]:
    """Of an installed package, without extras."""
    return [Requirement(each) for each in metadata.requires(name) or ()]


@cache
def installed(name: str) -> Version | None:
    try:
        return Version(metadata.version(name))
    except metadata.PackageNotFoundError:
        return None


@cache
def admitted(name: str) -> SpecifierSet:
    """The Pythons that an installed package is for."""
    return SpecifierSet(metadata.metadata(name).json.get("requires_python", ""))


def test_installed_packages_admit_every_python_that_their_pin_is_for() -> None:
    checked = 0
    for place in PLACES:
        for name, versions in chosen("test", place).items():
            if versions == [installed(name)]:
                assert place.full in admitted(name), (name, str(admitted(name)), place)
                checked += 1
    assert checked > 100 * len(PLACES)


@everywhere
def test_nothing_is_installed_from_a_named_place_or_without_a_hash(lock: str) -> None:
    text = (FOLDER / f"{lock}.lock").read_text()
    assert "://" not in text
    assert not re.search(r"^\s*-(?!-hash)", text, flags=re.M)
    assert text.count(str(ROOT)) == 0
    for each in itertools.chain(*pins(lock).values()):
        assert each.hashes, each.requirement
        assert each.requirement.url is None


@pytest.mark.parametrize("lock", [lock for lock in EXTRAS if lock != "test"])
def test_what_is_served_is_what_was_tested(lock: str) -> None:
    for place in PLACES:
        ours, tested = chosen(lock, place), chosen("test", place)
        for name in ours.keys() & tested.keys():
            assert ours[name] == tested[name], (name, place)
        assert lock != "serve" or ours.keys() <= tested.keys()


@everywhere
def test_one_onnxruntime(lock: str) -> None:
    there = {"onnxruntime", "onnxruntime-gpu"} & pins(lock).keys()
    assert there == {"gpu": {"onnxruntime-gpu"}, "locust": set(), "clients": set()}.get(
        lock, {"onnxruntime"}
    )


def test_the_makefile_and_the_script_make_and_install_the_same() -> None:
    makefile = (ROOT / "Makefile").read_text()
    script = (FOLDER / "lock.sh").read_text()
    variables = dict(re.findall(r"^(\w+_EXTRAS) := (\S+)$", makefile, flags=re.M))
    assert set(variables["SERVE_EXTRAS"].split(",")) == set(EXTRAS["serve"])
    assert set(variables["TEST_EXTRAS"].split(",")) == set(EXTRAS["test"])
    made = re.findall(r"^\tcompile (\w+) .*?(?:\\\n.*?)?\$\(extras ([\w ]+)\)", script, re.M)
    assert {name: set(extras.split()) for name, extras in made} == {
        name: set(extras) for name, extras in EXTRAS.items()
    }
    for name in ("serve", "test", "clients"):
        assert f"_ENV)/.installed: requirements/{name}.lock" in makefile
    assert "--require-hashes --requirement requirements/$(2).lock" in makefile


def test_images_and_the_bento_install_from_a_lock() -> None:
    used = {"Dockerfile": "serve", "Dockerfile.gpu": "gpu", "Dockerfile.locust": "locust"}
    assert set(used) == {path.name for path in (ROOT / "deploy").glob("Dockerfile*")}
    for name, lock in used.items():
        text = (ROOT / "deploy" / name).read_text()
        assert f"COPY requirements/{lock}.lock ./\n" in text
        assert f" --require-hashes --requirement {lock}.lock" in text
        assert "install --no-deps" in text
    bento = yaml.safe_load((ROOT / "bentofile.yaml").read_text())["python"]
    assert bento == {"requirements_txt": "./requirements/serve.lock", "lock_packages": False}


def test_what_is_held_back_is_so() -> None:
    held = [Requirement(line) for line in lines_of("held.txt") if not line.startswith("#")]
    assert held
    for each in held:
        (pin,) = pins("test")[each.name]
        assert pin.version in each.specifier, each


def test_tensorrt_is_the_one_that_onnxruntime_is_built_for() -> None:
    (asked,) = PROJECT["optional-dependencies"]["tensorrt"]
    assert asked == "tensorrt-cu13>=10.13,<11"
    bound = asked.removeprefix("tensorrt-cu13")
    page = (ROOT / "docs/gpu.md").read_text()
    assert asked in page
    assert "tensorrt-cu12" not in re.sub(r"`tensorrt-cu12`[^.]*never", "", page)
    assert f'TENSORRT="tensorrt-cu13-libs{bound}"' in (ROOT / "deploy/Dockerfile.gpu").read_text()


def test_further_packages_of_an_image_are_those_of_the_lock() -> None:
    (pin,) = pins("test")["onnxruntime-ep-openvino"]
    named = f"onnxruntime-ep-openvino=={pin.version}"
    assert f'PACKAGES="{named}"' in (ROOT / "docs/docker.md").read_text(), named
