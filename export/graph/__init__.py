"""Makes an ONNX graph of a PyTorch network, fully convolutional where that is asked for."""
