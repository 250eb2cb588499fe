"""Provides every load test with a running service, pictures, statistics, tables and plots."""
