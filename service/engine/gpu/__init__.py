"""What NVIDIA's GPUs need: CUDA, lanes with memory of their own, graphs that are captured.

`session` runs batches through `lanes.py`; `graph_gate.py` keeps other work away while a CUDA graph
is recorded, and `cuda.py` calls CUDA itself. Nothing here loads a library unless a GPU provider is
chosen.
"""
