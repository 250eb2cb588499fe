"""Holds the protocol definitions and the stubs that `make protos` generates from them."""
