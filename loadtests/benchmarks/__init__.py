"""Benchmarks, each a command of its own: ``python -m loadtests.benchmarks.limit`` and others."""
