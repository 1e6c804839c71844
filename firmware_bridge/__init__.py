"""Bytes from a wearable become samples: framing, serial ports, clock, recorder, simulator."""
