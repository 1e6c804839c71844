"""The rules of docs/edgeframe.md that can be seen on the wire, and what to do about each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """what: what the device must do. advice: where to look when it does not."""

    name: str
    what: str
    advice: str


RULES = {
    rule.name: rule
    for rule in (
        Rule(
            "framing",
            "only COBS blocks of at most 256 bytes, each closed by 00",
            "send no text on this port, close every frame with 00, encode header, payload and CRC in one COBS block, "
            "and check the baud rate",
        ),
        Rule(
            "crc",
            "zlib's CRC-32 over header and payload, little endian",
            "start from FFFFFFFF, reflected polynomial EDB88320, invert at the end; where it is wrong now and then, "
            "bytes are lost on the line: look for a buffer that overflows",
        ),
        Rule("version", "version 1 in the high half of the first byte", "send 1 << 4 | type"),
        Rule("type", "types that a device sends: HELLO, DATA, TIME, STATUS, ACK", "send only these types"),
        Rule(
            "baud",
            "what is sent fits the baud rate",
            "raise the baud rate, send i2 instead of f4, lower the rates, or put up to 100 ms in a frame; on native "
            "USB, where the rate means nothing, give --baud 2000000",
        ),
        Rule("hello-period", "HELLO every 2 s", "send HELLO at the start and every 2 s after, asked or not"),
        Rule("hello-on-request", "HELLO when it is asked for", "answer COMMAND 1 with ACK and HELLO at once"),
        Rule("hello-first", "HELLO before the first DATA", "queue HELLO at the start, before sampling begins"),
        Rule("hello-content", "HELLO as edgeframe.md describes it", "compare with edgeframe.md, field by field"),
        Rule(
            "hello-clock",
            "uptime_us and t_us of HELLO are one clock",
            "take the time once; t_us is the low 32 bits of uptime_us",
        ),
        Rule(
            "hello-names",
            "names and units that the toolkit knows",
            "eda in uS, ecg in mV, bvp in a.u., resp in a.u., emg in uV, spo2 in %; other names are read past, "
            "other units are refused",
        ),
        Rule(
            "boot-id",
            "boot_id is new at every start, and only then",
            "count starts in EEPROM or draw a true random number; an unseeded rand() gives the same one every time",
        ),
        Rule(
            "stream",
            "DATA is of a stream that HELLO lists, all else of stream 255",
            "number streams from 0 in HELLO's order; HELLO, TIME, STATUS and ACK are of stream 255",
        ),
        Rule(
            "data-size",
            "n samples of the stream's type fill the payload",
            "n counts samples, not bytes; i2 takes 2 bytes, f4 takes 4; n is at least 1",
        ),
        Rule("flags", "flags are 1, 2, 4 and 8", "leave the other bits 0"),
        Rule(
            "seq",
            "seq counts up by one for every frame of a stream",
            "keep one u16 count for each stream, and count a frame once whether it is sent or dropped",
        ),
        Rule(
            "overrun",
            "the overrun flag stands where frames were dropped, and nowhere else",
            "set flag 1 in the next DATA of the stream after a frame was dropped, and clear it then",
        ),
        Rule(
            "time-order",
            "t_us runs forwards",
            "stamp with one free-running µs counter; a restart needs a new boot_id, and its HELLO first",
        ),
        Rule(
            "time-step",
            "t_us goes on by n samples from frame to frame",
            "stamp the first sample when it is taken, not the frame when it is sent; t_us is in µs",
        ),
        Rule(
            "rate",
            "rate_hz of HELLO is the rate by the device's clock",
            "say the rate that is really sampled at, and let sampling times not drift: next += period",
        ),
        Rule(
            "host-clock",
            "the device's clock is within 1000 ppm of this machine's",
            "check that t_us is in µs and the timer's prescaler is right; lose no ticks while interrupts are off",
        ),
        Rule(
            "frame-length",
            "40 to 100 ms of samples a frame",
            "collect rate_hz · 0.08 samples, at least 1 and as many as fit 240 bytes",
        ),
        Rule(
            "values",
            "values are measurements",
            "set the clipped flag at the ends of the range, lead-off without contact, −32768 (i2) or NaN (f4) for what "
            "was not measured, and choose a scale that does not saturate",
        ),
        Rule("status-period", "STATUS once a second", "send STATUS every second, also while there is nothing to say"),
        Rule(
            "status-content",
            "STATUS has uptime_s, drops, errors and, where known, battery",
            "CBOR map: uptime_s in seconds, drops and errors counted from the start, battery 0 to 1",
        ),
        Rule(
            "drops",
            "STATUS counts the DATA frames that seq shows as lost",
            "count every dropped DATA frame once in drops, and use up its seq",
        ),
        Rule(
            "time-reply",
            "TIME is answered by the same 8 bytes and the device clock as u64 µs",
            "repeat the 8 bytes as they came, then the 64-bit clock that HELLO's uptime_us shows",
        ),
        Rule("ack", "COMMAND is answered by ACK with its id as seq", "copy its seq; first payload byte 0: done"),
        Rule("ack-unknown", "a command that is not known gets an ACK other than 0", "answer it with payload byte 1"),
    )
}
