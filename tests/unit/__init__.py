"""Tests that start no process, open no port and need no PyTorch: `make unit`."""
