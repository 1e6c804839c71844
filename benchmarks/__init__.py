"""FLOPs, latency and memory, beside the figures of the paper."""

from edgepain.benchmarks.bench import benchmark
from edgepain.benchmarks.report import Report
from edgepain.benchmarks.tables import show

__all__ = ["Report", "benchmark", "show"]
