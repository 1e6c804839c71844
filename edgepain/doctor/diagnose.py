"""All checks, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgepain.doctor.check import Check, Status, not_checked
from edgepain.doctor.host import Host
from edgepain.doctor.listen import listen
from edgepain.doctor.machine import machine
from edgepain.doctor.ports import ports
from edgepain.doctor.software import software
from edgepain.firmware_bridge.identify import AUTO

LISTEN_S = 5.0


def diagnose(
    port: str | None = None,
    *,
    device: str = AUTO,
    options: Mapping[str, str] | None = None,
    baud: int | None = None,
    seconds: float = LISTEN_S,
    host: Host | None = None,
) -> Iterator[Check]:
    """Look at everything, and at what is on `port` where one is given. host: this machine, or a made-up tree.

    Nothing is changed; only a `port` is opened, which restarts some boards. Raises nothing for what it finds.
    """
    host = host or Host()
    yield from software()
    yield from machine(host)
    fine = True
    for check in ports(host, port):
        fine = fine and not (port and check.name.startswith(f"{port}: ") and check.status is Status.FAILS)
        yield check
    if port is None:
        yield not_checked("device", "give its port to have it listened to: edgepain doctor PORT")
    elif fine:
        yield from listen(port, device, options or {}, baud, seconds)
    else:
        yield not_checked(f"{port}: device", "not listened to, as it cannot be opened or is not ours alone")
