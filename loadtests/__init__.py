"""Measures and attacks a running service: benchmarks, fuzzing, soak and the gate of a release."""
