"""Compares the service with other servers of the same network: ``python -m loadtests.peers``."""
