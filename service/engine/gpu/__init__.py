"""What NVIDIA's GPUs need: CUDA, lanes with memory of their own, graphs that are captured."""
