"""What may stand between a wearable and a session on this machine, looked for and explained."""

from edgepain.doctor.check import Check, Status
from edgepain.doctor.diagnose import diagnose
from edgepain.doctor.host import Host

__all__ = ["Check", "Host", "Status", "diagnose"]
