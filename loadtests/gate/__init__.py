"""Gates a release by a load test: ``python -m loadtests.gate``."""
