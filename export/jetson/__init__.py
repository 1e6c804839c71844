"""Graphs for TensorRT: one form of the network, written for the opset, the types and the INT8 that a version takes."""

from edgepain.export.jetson.target import add_jetson

__all__ = ["add_jetson"]
