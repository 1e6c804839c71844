"""Windows, resampling, robust scaling and signal quality: one code for training and for live use."""

from edgepain.signal.e4 import e4_files, read_e4_session
from edgepain.signal.modality import Modality
from edgepain.signal.quality import Quality, QualityCode, assess, in_contact
from edgepain.signal.recording import Event, Recording, Signal
from edgepain.signal.scaling import RobustStats, ScalingSpec, robust_stats, scale
from edgepain.signal.stream import (
    ClockSkew,
    DeviceInfo,
    LinkChange,
    LinkState,
    LinkStats,
    Marker,
    MarkerSource,
    Samples,
    Source,
    StreamEvent,
    StreamInfo,
)
from edgepain.signal.window import Window, WindowCutter, WindowSpec, interpolate

__all__ = [
    "ClockSkew",
    "DeviceInfo",
    "Event",
    "LinkChange",
    "LinkState",
    "LinkStats",
    "Marker",
    "MarkerSource",
    "Modality",
    "Quality",
    "QualityCode",
    "Recording",
    "RobustStats",
    "Samples",
    "ScalingSpec",
    "Signal",
    "Source",
    "StreamEvent",
    "StreamInfo",
    "Window",
    "WindowCutter",
    "WindowSpec",
    "assess",
    "e4_files",
    "in_contact",
    "interpolate",
    "read_e4_session",
    "robust_stats",
    "scale",
]
