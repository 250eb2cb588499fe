"""The networks: what is known about each, how it is built, and what its classes are called."""
