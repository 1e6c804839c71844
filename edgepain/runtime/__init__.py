"""Samples in, decisions out."""

from edgepain.runtime.background import Background
from edgepain.runtime.decider import Decider
from edgepain.runtime.decision import Abstention, Decision, SignalState
from edgepain.runtime.markers import TypedMarkers, forward, key_labels
from edgepain.runtime.recording import Recorded, RecordingSession, RecordingSummary
from edgepain.runtime.recording_view import RecordingView
from edgepain.runtime.service import ServiceManager
from edgepain.runtime.session import Limits, Output, OutputTotals, Percentiles, Session, Sink, Summary
from edgepain.runtime.sinks import JsonLines
from edgepain.runtime.terminal import TerminalView

__all__ = [
    "Abstention",
    "Background",
    "Decider",
    "Decision",
    "JsonLines",
    "Limits",
    "Output",
    "OutputTotals",
    "Percentiles",
    "Recorded",
    "RecordingSession",
    "RecordingSummary",
    "RecordingView",
    "ServiceManager",
    "Session",
    "SignalState",
    "Sink",
    "Summary",
    "TerminalView",
    "TypedMarkers",
    "forward",
    "key_labels",
]
