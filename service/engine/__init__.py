"""From crops to probabilities on a device: admission, batches, sessions.

The data plane asks this room for a permit (`admission.py`) and enqueues crops at a model's batcher;
`repository` opens a `Model` when it loads a version, and releases it. The room owns the threads of
a worker (`pool.py`), the queues in front of each device, ONNX Runtime's sessions and what lies on a
GPU. It knows neither pictures nor transports, and never decides which version answers, or when one
is loaded or unloaded.

Begin with `model.py`, one loaded network, then `batcher.py`, the way of crops through it. Behind
them are `turns.py` (whose crops are next), `session.py` and `session_factory.py` (ONNX Runtime),
`failures.py` (what a failed run means), `providers/` (which execution providers work, and their
options) and `gpu/`.
"""
