"""edgepain: pain recognition from EDA and ECG/BVP, from training to a live wearable."""

import os
from importlib.metadata import version

# ONNX Runtime's builds for Linux report their use to Microsoft unless this is set before they are loaded. What runs
# beside a patient reports to nobody; set it to 0 yourself if you want it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = version("edgepain")
