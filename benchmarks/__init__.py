"""FLOPs, latency and memory, beside the figures of the paper."""
