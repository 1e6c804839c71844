"""TensorRT on an NVIDIA GPU: engines are built on the device that runs them, memory comes from the CUDA driver."""
