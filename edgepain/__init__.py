"""edgepain: pain recognition from EDA and ECG/BVP, from training to a live wearable."""

from importlib.metadata import version

__version__ = version("edgepain")
