"""Sends requests at little cost, and counts at a steady rate what became of each."""
