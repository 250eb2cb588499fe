"""What tests share that start the real service, with those that do not."""

from tests.unit.conftest import learning as learning
