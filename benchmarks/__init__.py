"""FLOPs, latency and memory, beside the figures of the paper; offline evaluation.

Imports nothing: an engine is measured in a process that has imported nothing else (`worker`).
"""
