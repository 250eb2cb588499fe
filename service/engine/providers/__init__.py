"""Which of ONNX Runtime's execution providers work here, and the options that they get.

`session_factory` and `model` call this; `available.py` tries providers, `options.py` computes their
options without a device, `openvino.py` has what OpenVINO's plug-in needs.
"""
