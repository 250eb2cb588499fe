"""Load tests against a running service."""
