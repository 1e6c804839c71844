"""Reports of training runs: results beside the paper's, with tests, pictures and what was run on what."""

from edgepain.train.report.report import PAGE, STEPS, write_report
from edgepain.train.report.source import ReportableRun

__all__ = ["PAGE", "STEPS", "ReportableRun", "write_report"]
