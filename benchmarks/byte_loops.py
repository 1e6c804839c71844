"""Decoders as one writes them first: a byte at a time, in plain Python. What the others are measured against."""

from __future__ import annotations

import contextlib
from zlib import crc32

_NIBBLE_CRC = [0, 3, 6, 5, 12, 15, 10, 9, 11, 8, 13, 14, 7, 4, 1, 2]


def bitalino_frames(wire: bytes, size: int) -> list[list[int]]:
    """Samples of frames of 4 to 6 channels (7 or 8 bytes): a window of one frame's bytes slides until CRC4 fits."""
    frames = []
    window: list[int] = []
    for byte in wire:
        window.append(byte)
        if len(window) < size:
            continue
        crc = 0
        for each in window[:-1]:
            crc = _NIBBLE_CRC[crc ^ each >> 4]
            crc = _NIBBLE_CRC[crc ^ each & 0xF]
        if _NIBBLE_CRC[crc ^ byte >> 4] != byte & 0xF:
            window.pop(0)
            continue
        b = window[::-1]
        values = [(b[1] & 0xF) << 6 | b[2] >> 2, (b[2] & 3) << 8 | b[3], b[4] << 2 | b[5] >> 6]
        values.append((b[5] & 0x3F) << 4 | b[6] >> 4)
        if size == 8:
            values += [(b[6] & 0xF) << 2 | b[7] >> 6, b[7] & 0x3F]
        frames.append(values)
        window = []
    return frames


def shimmer_packets(wire: bytes, size: int) -> list[tuple[int, list[int]]]:
    """(time, values) of packets of `size` bytes with CRC-16 over an even length: a window slides until it fits."""
    packets = []
    window: list[int] = []
    for byte in wire:
        window.append(byte)
        if len(window) < size:
            continue
        crc = 0xB0CA
        for each in window[:-2]:
            crc = (crc << 8 & 0xFFFF) ^ _CRC16[crc >> 8 ^ each]
        if window[0] or crc != window[-2] | window[-1] << 8:
            window.pop(0)
            continue
        values = [window[at] | window[at + 1] << 8 for at in range(4, size - 2, 2)]
        packets.append((window[1] | window[2] << 8 | window[3] << 16, values))
        window = []
    return packets


def _crc16(byte: int) -> int:
    crc = byte << 8
    for _ in range(8):
        crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


_CRC16 = [_crc16(byte) for byte in range(256)]


def edgeframe_frames(wire: bytes) -> list[tuple[int, list[float]]]:
    """(seq, values) of DATA frames of int16 samples: COBS undone byte by byte, CRC-32 by zlib."""
    frames = []
    block: list[int] = []
    left = code = 0
    for byte in wire:
        if byte == 0:
            whole = bytes(block)
            if len(whole) >= 14 and crc32(whole[:-4]) == int.from_bytes(whole[-4:], "little"):
                values = []
                for at in range(10, len(whole) - 4, 2):
                    values.append(int.from_bytes(whole[at : at + 2], "little", signed=True) * 0.001)
                frames.append((whole[2] | whole[3] << 8, values))
            block, left, code = [], 0, 0
        elif left == 0:
            if 0 < code < 255:
                block.append(0)
            code, left = byte, byte - 1
        else:
            block.append(byte)
            left -= 1
    return frames


def text_lines(wire: bytes) -> list[list[float]]:
    """Numbers of lines of comma-separated ones, whatever they are: no format, no range, no end of a line's length."""
    lines = []
    line = ""
    for byte in wire:
        if byte != 10:
            line += chr(byte)
            continue
        with contextlib.suppress(ValueError):
            lines.append([float(cell) for cell in line.strip().split(",")])
        line = ""
    return lines
