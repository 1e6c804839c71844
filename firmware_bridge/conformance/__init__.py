"""What is wrong with a device's edgeframe stream: every rule of docs/edgeframe.md, checked on the bytes."""

from edgepain.firmware_bridge.conformance.checker import ConformanceChecker
from edgepain.firmware_bridge.conformance.findings import Finding, Verdict
from edgepain.firmware_bridge.conformance.port_check import check_port
from edgepain.firmware_bridge.conformance.rules import RULES, Rule

__all__ = ["RULES", "ConformanceChecker", "Finding", "Rule", "Verdict", "check_port"]
