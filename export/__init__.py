"""From a training run to a bundle: trace, quantize, verify, write."""

from edgepain.export.exporter import Target, export_run
from edgepain.export.run import ExportableRun
from edgepain.export.verify import Limits

__all__ = ["ExportableRun", "Limits", "Target", "export_run"]
