"""What operators ask for at the same time, of several workers, is all written down."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

from service.repository.desired_state import DesiredState

WORKERS, CALLS = 4, 25


def test_no_call_overwrites_another(tmp_path: Path) -> None:
    with ExitStack() as stack:
        states = [stack.enter_context(closing(DesiredState(tmp_path))) for _ in range(WORKERS)]

        def ask(number: int) -> list[int]:
            state = states[number]
            return [state.ask(f"model-{number}-{call}", unloaded=True) for call in range(CALLS)]

        with ThreadPoolExecutor(WORKERS) as pool:
            numbers = [number for own in pool.map(ask, range(WORKERS)) for number in own]
        assert sorted(numbers) == list(range(1, WORKERS * CALLS + 1))
        assert len(states[0].current().models) == WORKERS * CALLS
