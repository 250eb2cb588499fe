"""Shape the load: a warm-up, steps up to all users, and a time with all, which is judged."""

from __future__ import annotations

import time

from locust import LoadTestShape

from loadtests.gate.options import chosen
from loadtests.gate.ramp_times import climb_s, users_at

GRACE_S = 60.0
"""Seconds beyond the plan in which the last users may still come."""


class Ramp(LoadTestShape):
    """The ramp by ``--warm-up-s``, ``--steps``, ``--step-s``, ``--hold-s`` and ``--users``."""

    use_common_options = True

    def __init__(self) -> None:
        super().__init__()
        self.reset_time()

    def reset_time(self) -> None:
        """Begin again: Locust's page can start a ramp more than once."""
        super().reset_time()
        self.held_from = self.held_to = float("inf")
        """When all users were there, in seconds since the epoch."""
        self.users: dict[int, int] = {}
        """How many there were, by second since the epoch."""

    def tick(self) -> tuple[int, float] | None:
        """Return how many users there shall be, and how many start per second; None at the end."""
        assert self.runner is not None  # noqa: S101
        options = chosen(self.runner.environment)
        passed, now = self.get_run_time(), time.time()
        users = users_at(passed, options)
        self.users[int(now)] = self.runner.user_count
        if passed >= climb_s(options) and self.runner.user_count == users:
            self.held_from = min(self.held_from, now)
        end = self.held_from + options.hold_s
        if now >= end or passed >= climb_s(options) + options.hold_s + GRACE_S:
            self.held_to = end
            return None
        return users, float(users)
