"""Bytes from a wearable become samples: framing, serial ports, clock, recorder, simulator."""

from edgepain.firmware_bridge.assembler import SampleAssembler
from edgepain.firmware_bridge.clock import DeviceClock
from edgepain.firmware_bridge.device_source import DeviceSource
from edgepain.firmware_bridge.devices import DEFAULT_DEVICE, device_kind, device_names
from edgepain.firmware_bridge.driver import DeviceKind, Driver, DriverOptions
from edgepain.firmware_bridge.edgeframe import Frame, FrameDecoder, FrameType
from edgepain.firmware_bridge.logged import read_log
from edgepain.firmware_bridge.playback import packaged_recording, read_csv, read_e4
from edgepain.firmware_bridge.recorder import open_recording, read_recording
from edgepain.firmware_bridge.replay import ReplaySource

__all__ = [
    "DEFAULT_DEVICE",
    "DeviceClock",
    "DeviceKind",
    "DeviceSource",
    "Driver",
    "DriverOptions",
    "Frame",
    "FrameDecoder",
    "FrameType",
    "ReplaySource",
    "SampleAssembler",
    "device_kind",
    "device_names",
    "open_recording",
    "packaged_recording",
    "read_csv",
    "read_e4",
    "read_log",
    "read_recording",
]
