"""What tests of the service share: patience with a loaded machine, and short loads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from service.engine import model

# on a loaded machine Hypothesis takes its own slowness for a fault of the test
settings.register_profile("patient", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def learning() -> Iterator[None]:
    """Batch sizes are learnt in less time: each runs once, not for a while.

    Some of these tests load models a hundred times.
    """
    with pytest.MonkeyPatch.context() as patch:  # of its own: that of a test is undone later
        patch.setattr(model, "_CPU_SLICE_S", 0.0)
        yield
