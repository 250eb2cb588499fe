"""Compute how many users there are when, without Locust, which patches whoever imports it."""

from __future__ import annotations

from argparse import Namespace


def users_at(passed_s: float, options: Namespace) -> int:
    """Return how many users there are ``passed_s`` seconds after the start."""
    climbing = passed_s - options.warm_up_s
    step: int = 1 + sum(climbing >= options.step_s * n for n in range(1, options.steps))
    users: int = options.num_users
    return max(1, round(users * step / int(options.steps)))


def climb_s(options: Namespace) -> float:
    """Return the seconds from the start until the last users are to come."""
    return float(options.warm_up_s + options.step_s * (options.steps - 1))
