"""One file per family: each network is registered next to its facts."""
