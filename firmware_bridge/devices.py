"""The devices that can be read, by name. One is imported only when it is asked for.

Another package adds its own by an entry point of the group `edgepain.devices` that leads to a `DeviceKind`:

    [project.entry-points."edgepain.devices"]
    ring = "ring_driver:KIND"
"""

from __future__ import annotations

import importlib
from importlib.metadata import EntryPoint, entry_points

from edgepain.errors import ConfigError
from edgepain.firmware_bridge.driver import DeviceKind

GROUP = "edgepain.devices"
DEFAULT_DEVICE = "edgeframe"
_OWN = {
    "edgeframe": "edgepain.firmware_bridge.edgeframe_driver",
    "bitalino": "edgepain.firmware_bridge.bitalino_driver",
    "shimmer3": "edgepain.firmware_bridge.shimmer_driver",
    "lines": "edgepain.firmware_bridge.lines_driver",
    "lsl": "edgepain.firmware_bridge.lsl_line",
    "brainflow": "edgepain.firmware_bridge.brainflow_line",
    "e4": "edgepain.firmware_bridge.e4_line",
}


def device_names() -> list[str]:
    """Names that `device_kind` takes: those of this package first, then those of others."""
    return [*_OWN, *sorted(_foreign().keys() - _OWN.keys())]


def device_kind(name: str) -> DeviceKind:
    """The device of that name. Raises ConfigError where there is none, or its package cannot be imported."""
    if name in _OWN:
        kind = importlib.import_module(_OWN[name]).KIND
        assert isinstance(kind, DeviceKind)
        return kind
    entry = _foreign().get(name)
    if entry is None:
        raise ConfigError(f"{name!r} is no device that is known here; there are: {', '.join(device_names())}")
    try:
        kind = entry.load()
    # Somebody else's code: it may fail in any way.
    except Exception as error:
        raise ConfigError(f"device {name}: {entry.value} cannot be loaded ({error}); reinstall its package") from error
    if not isinstance(kind, DeviceKind):
        raise ConfigError(f"device {name}: {entry.value} is no DeviceKind; reinstall its package")
    return kind


def _foreign() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}
