"""The processes: who starts, replaces and stops the workers."""
