"""Mixed traffic and faults, and an account of every request: ``python -m loadtests.soak``."""
