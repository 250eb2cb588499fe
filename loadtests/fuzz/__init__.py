"""Attacks services with hostile pictures and requests, mutated by a seed."""
