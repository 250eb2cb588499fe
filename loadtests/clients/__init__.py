"""Clients that cost little, and traffic at a rate with what became of each request."""
