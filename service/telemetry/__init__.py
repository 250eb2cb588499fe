"""What is recorded: metrics, statistics of versions, the log, traces."""
