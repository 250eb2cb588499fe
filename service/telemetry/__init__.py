"""What is recorded: metrics, statistics of versions, the log, traces.

The rooms that do the work call this one to count and to time, from any thread; the transports ask
it for the text of /metrics and for a version's statistics. It owns the files, mapped into memory,
in which the workers of a service keep their counts together, so that any worker can answer for all
of them, and a worker that died stays counted. It never decides what happens to a request, and a
full disk costs counts but no answers.

Begin with `metrics.py`, the list of all metrics; `request_metrics.py` counts a request,
`model_metrics.py` follows the models, `exporter.py` writes the text. Below them are
`value_files.py` and `multiprocess.py`. The log is in `logs.py`, traces begin in `tracing.py`.
"""
