"""Draws the rooms of `service` and who may import whom: ``python -m tests.drawing``.

The rooms stand above what they may import. Only arrows that no longer way implies are drawn.
"""

from __future__ import annotations

import ast
from html import escape

from tests.architecture import SERVICE
from tests.paths import ROOT

FILE = ROOT / "docs" / "house.svg"
_WIDE, _HIGH, _GAP = 540, 46, 24
_LEFT, _BESIDE = 20, 30
_STYLE = (
    "text{font-family:system-ui,sans-serif;font-size:13px;fill:#1b1f24}.name{font-weight:600}"
    "rect{fill:#f3f6fa;stroke:#57606a}.out rect{fill:#fff6e5}path{stroke:#57606a;fill:none}"
)


def sentence(room: str, package: str = "service") -> str:
    """What a room, or a file beside the rooms, says that it is for."""
    path = ROOT / package / room
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].replace("`", "")


def level(room: str) -> int:
    """How far below the roof a room stands: right below the lowest of those that import it."""
    above = [other for other, lower in SERVICE.items() if room in lower]
    if not above and not SERVICE[room]:  # it stands apart: where there is room
        return level("imaging")
    return max((1 + level(other) for other in above), default=0)


def arrows() -> list[tuple[str, str]]:
    """Pairs of a room and one right below it."""
    found = []
    for room, lower in SERVICE.items():
        implied = {each for other in lower for each in SERVICE[other]}
        if implied <= set(lower):  # or it may not import all that its arrows lead to: all are drawn
            lower = tuple(other for other in lower if other not in implied)
        found += [(room, other) for other in lower]
    return sorted(found)


def svg() -> str:
    """The drawing."""
    rooms = sorted(filter(None, SERVICE), key=lambda room: (level(room), room))
    rows: dict[int, list[str]] = {}
    for room in rooms:
        rows.setdefault(level(room), []).append(room)
    places = {
        room: (_LEFT + index * (_WIDE + _BESIDE), 10 + number * (_HIGH + _GAP))
        for number, row in rows.items()
        for index, room in enumerate(sorted(row, key=_first))
    }
    width = max(x for x, _ in places.values()) + _WIDE + _LEFT
    high = max(y for _, y in places.values()) + _HIGH + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {high}" role="img">',
        "<title>The rooms of service/: each may import what an arrow leads to</title>",
        f"<style>{_STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z" style="fill:#57606a"/></marker>'
        "</defs>",
    ]
    parts += [_arrow(places[a], places[b]) for a, b in arrows()]
    for room in rooms:
        x, y = places[room]
        is_file = not (ROOT / "service" / room).is_dir()
        parts.append(
            f'<g class="{"out" if is_file else "room"}"><rect x="{x}" y="{y}" width="{_WIDE}" '
            f'height="{_HIGH}" rx="6"/><text class="name" x="{x + 12}" y="{y + 19}">'
            f"{escape(room + ('.py' if is_file else '/'))}</text>"
            f'<text x="{x + 12}" y="{y + 37}">{escape(sentence(room))}</text></g>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _first(room: str) -> tuple[bool, str]:
    """The rooms of the main way come before those beside it."""
    return room in ("supervision", "healthcheck"), room


def _arrow(start: tuple[int, int], end: tuple[int, int]) -> str:
    (x, y), (to_x, to_y) = start, end
    down = f"M{x + _WIDE // 2},{y + _HIGH} V"
    if x == to_x:
        way = f"{down}{to_y - 2}"
    elif to_x < x:  # down, then to its right side
        way = f"{down}{to_y + _HIGH // 2} H{to_x + _WIDE + 2}"
    else:  # to the side, then down to its top
        way = f"M{x + _WIDE},{y + _HIGH // 2} H{to_x + _WIDE // 2} V{to_y - 2}"
    return f'<path d="{way}" marker-end="url(#tip)"/>'


if __name__ == "__main__":
    FILE.write_text(svg(), encoding="utf-8")
