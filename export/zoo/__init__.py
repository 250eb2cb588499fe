"""The zoo: one file per family, each network registered next to its facts."""
