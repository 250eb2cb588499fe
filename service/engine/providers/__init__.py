"""Which of ONNX Runtime's execution providers there are, and their options."""
