"""Tests that start the real service, or other programs."""
