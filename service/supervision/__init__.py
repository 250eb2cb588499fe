"""Who starts, replaces and stops the workers, in place of BentoML's circus; docs/operations.md."""
