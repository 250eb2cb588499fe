"""The service beside other servers of the same network: ``python -m loadtests.peers``."""
