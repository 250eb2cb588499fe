"""The processes: who starts, replaces and stops the workers.

`app` installs the supervisor into `bentoml serve`, which then runs it as the parent process, and
each worker runs `worker.py` and `life.py`. This room owns the processes, the socket of HTTP's port,
the channel between parent and worker, and the scratch folder. The parent never loads ONNX Runtime,
opens a device or answers a request; nothing here knows models or transports beyond their `drain`
and `stop`.

Begin with `supervisor.py` for the parent and `life.py` for a worker's end; `restarts.py` decides
when a worker is started again.
"""
