"""From a PyTorch network to an ONNX graph, fully convolutional where that is asked for."""
