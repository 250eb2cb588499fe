"""The order of the house: which room may import which, and what breaks it.

`tests.drawing` draws the table for docs/design.md. `tests/unit/house/test_architecture.py` holds
it, by the imports of every file, those in functions and under TYPE_CHECKING too. No file is exempt.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

LOWEST = ("errors", "manifest")
SERVICE: dict[str, tuple[str, ...]] = {
    "": (),
    "healthcheck": (),
    "errors": (),
    "manifest": (),
    "config": LOWEST,
    "imaging": (*LOWEST, "config"),
    "telemetry": (*LOWEST, "config", "imaging"),
    "engine": (*LOWEST, "config", "imaging", "telemetry"),
    "repository": (*LOWEST, "config", "imaging", "telemetry", "engine"),
    "dataplane": (*LOWEST, "config", "imaging", "telemetry", "engine", "repository"),
    "transports": (*LOWEST, "config", "imaging", "telemetry", "engine", "repository", "dataplane"),
    "supervision": ("config", "telemetry"),
}
SERVICE["app"] = tuple(room for room in SERVICE if room not in ("", "healthcheck"))

FACTS = ("errors", "spec")
EXPORT: dict[str, tuple[str, ...]] = {
    "": (),
    "errors": (),
    "spec": ("errors",),
    "data": FACTS,
    "weights": (*FACTS, "data"),
    "graph": (*FACTS, "data"),
    "zoo": (*FACTS, "data", "weights", "graph"),
    "proof": (*FACTS, "data", "graph"),
    "versions": (*FACTS, "data", "weights", "graph", "zoo", "proof"),
    "evaluation": (*FACTS, "data"),
    "precision": (*FACTS, "data", "versions"),
    "adoption": (*FACTS, "data", "weights", "zoo", "proof", "versions"),
}
EXPORT["cli"] = tuple(room for room in EXPORT if room)
EXPORT["__main__"] = tuple(room for room in EXPORT if room)

LOADTESTS: dict[str, tuple[str, ...]] = {
    "": (),
    "harness": (),
    "clients": ("harness",),
    "benchmarks": ("harness", "clients"),
    "fuzz": ("harness", "clients"),
    "gate": ("harness", "clients"),
    "gpu": ("harness", "clients"),
    "peers": ("harness", "clients"),
    "soak": ("harness", "clients"),
    "locustfile": ("gate",),
    "plots": ("harness", "benchmarks", "gate", "peers", "soak"),
}

MAY_IMPORT = {"service": SERVICE, "export": EXPORT, "loadtests": LOADTESTS}
"""Package -> room -> rooms of the package that it may import, besides itself and what the package
itself holds (``service.__version__``)."""
PACKAGES = {
    "service": ("service", "models"),
    "models": ("models",),
    "export": ("export", "service", "models"),
    "loadtests": ("loadtests", "export", "service", "models"),
}
"""Package -> packages of this repository that it may import; none may import the tests."""
ONLY_IN: dict[str, tuple[str, ...]] = {
    "grpc": ("transports/grpc",),
    "grpc_health": ("transports/grpc",),
    "grpc_reflection": ("transports/grpc",),
    "google": ("transports/grpc",),
    "starlette": ("transports/http", "app.py"),
    "swagger_ui_bundle": ("transports/http",),
    "httptools": ("transports/http",),
    "bentoml": ("app.py", "supervision"),
    "_bentoml_impl": ("supervision",),
    "_bentoml_sdk": ("supervision",),
    "circus": ("supervision",),
    "uvicorn": ("app.py", "supervision", "transports/http"),
    "onnxruntime": ("engine", "repository", "telemetry"),
    "PIL": ("imaging",),
    "numba": ("imaging",),
    "opentelemetry": ("telemetry",),
    "prometheus_client": ("telemetry",),
    **dict.fromkeys(("torch", "torchvision", "timm", "onnx", "sklearn", "skimage"), ()),
}
"""Package of others -> where in `service` it may be imported. The last ones are not for `models`
either."""
BY_NAME = {"service.supervision.worker": {"service.app"}}
"""Modules that a file names in a text, to import them when it runs: what BentoML is to start."""
Imports = Mapping[str, set[str]]


def module_of(file: Path, root: Path) -> str:
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(root: Path, package: str) -> dict[str, Path]:
    """Module -> file."""
    return {module_of(file, root): file for file in sorted((root / package).rglob("*.py"))}


def imported(file: Path, modules: Mapping[str, object], *, texts: bool = True) -> set[str]:
    """The modules that a file imports, wherever in it; of names that are none, where they are.

    Where ``texts`` count, so does one that is a module's name, alone or before a colon: it is for
    an import, or for another process.
    """
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inside = (f"{node.module}.{alias.name}" for alias in node.names)
            found |= {name if name in modules else str(node.module) for name in inside}
            found |= {"." * node.level} - {""}
        elif texts and isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value.partition(":")[0]
            if "." in name and name in modules and name not in BY_NAME.get(_own(file, modules), ()):
                found.add(name)
    return found


def _own(file: Path, modules: Mapping[str, object]) -> str:
    return next((name for name, path in modules.items() if path == file), "")


def room(module: str) -> str:
    """Of its package; "" is the package itself."""
    return (*module.split("."), "")[1]


def violations(root: Path) -> Iterator[str]:
    """What breaks the tables, in words."""
    modules = {name: file for package in PACKAGES for name, file in sources(root, package).items()}
    for module, file in modules.items():
        package = module.partition(".")[0]
        for other in sorted(imported(file, modules) - {module}):
            head = other.partition(".")[0]
            if head == "" or (head in (*PACKAGES, "tests") and head not in PACKAGES[package]):
                yield f"{module} imports {other}: {package} may not import {head or 'by dots'}"
            elif other in MAY_IMPORT and _bare(file, other):
                yield f"{module} imports {other} as a whole, with whatever is in it"
            elif head in ONLY_IN and package in ("service", "models"):
                places = ONLY_IN[head]
                path = file.relative_to(root / package)
                at_home = any(path.is_relative_to(place) for place in places)
                if not at_home and (package == "service" or not places):
                    yield f"{module} imports {other}: that is for {', '.join(places) or 'others'}"
            elif package == head and package in MAY_IMPORT:
                own, theirs = room(module), room(other)
                if theirs not in ("", own, *MAY_IMPORT[package].get(own, ())):
                    yield f"{module} imports {other}: {own} may not import {theirs}"


def _bare(file: Path, package: str) -> bool:
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    named = (alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names)
    return package in named


def circles(imports: Imports) -> list[set[str]]:
    """Sets of modules that all lead to each other."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for other in imports.get(waiting.pop(), set()) - seen:
                seen.add(other)
                waiting.append(other)
        return seen

    all_of = {module: reached(module) for module in imports}
    found = []
    for module in imports:
        circle = {other for other in all_of[module] if module in all_of.get(other, set())}
        if circle and circle not in found:
            found.append(circle)
    return found
