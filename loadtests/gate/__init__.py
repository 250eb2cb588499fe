"""A load test that gates a release: ``python -m loadtests.gate``."""
