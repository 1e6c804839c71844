"""Recordings of the wire as files that other tools open: XDF, EDF+, BDF+, Parquet, CSV."""

from edgepain.firmware_bridge.convert.formats import FORMATS, convert_log, output_path

__all__ = ["FORMATS", "convert_log", "output_path"]
