"""What is set of a Shimmer3, which channels its boards have, and raw values in units."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from edgepain.firmware_bridge.driver import DriverOptions
from edgepain.firmware_bridge.fixed_frames import Flags
from edgepain.firmware_bridge.shimmer import CLOCK_HZ, EXG_16, EXG_24, GSR, INT_A12, INT_A13
from edgepain.signal import Modality

# ADC values below it say nothing in the highest range.
LEAST_OF_RANGE_3 = 683
DEFAULT_RATES_HZ = {"gsr": 128.0, "exg": 512.0}
# Ids of the boards in a Shimmer3 that measure GSR or ExG: the first ones, and those from 2016 on.
BOARDS = {14: "gsr", 48: "gsr", 37: "exg", 47: "exg"}
# Bits 6:4 of a channel's register, and the gain they stand for.
GAINS = {0: 6, 1: 1, 2: 2, 3: 3, 4: 4, 5: 8, 6: 12}
_GAIN_BITS = {gain: bits for bits, gain in GAINS.items()}
# Chip and channel (1 or 2) of each lead.
_LEADS = {"LL-RA": (0, 1), "LA-RA": (0, 2), "VX-RL": (1, 2)}
_PPG_CHANNELS = {"A13": INT_A13, "A12": INT_A12}
_FIRST_CHANNEL_REGISTER = 3

Raw = npt.NDArray[np.int32]
_Positive = Annotated[float, msgspec.Meta(gt=0, lt=1e9)]


class ShimmerOptions(DriverOptions, frozen=True):
    """unit: which board is in it; auto asks. rate_hz: the nearest that divides 32768; 0 for 128 of GSR, 512 of ExG.

    gsr_range: 0 to 3, 4 for automatic. ppg: its pin, or none. lead, ecg_bits, ecg_gain: of an ExG unit; the gain is
    read back from the unit. crc: firmware before 0.13.7 has none. time_bits: of a packet's time; 0 for what the
    firmware's version says. rf0_kohm … rf3_kohm: feedback resistor of each range. adc_v: full scale. ecg_reference_mv:
    of the ExG chips.
    """

    unit: Literal["auto", "gsr", "exg"] = "auto"
    rate_hz: Annotated[float, msgspec.Meta(ge=0, le=2048)] = 0.0
    gsr_range: Literal[0, 1, 2, 3, 4] = 4
    ppg: Literal["A13", "A12", "none"] = "A13"
    lead: Literal["LL-RA", "LA-RA", "VX-RL"] = "LL-RA"
    ecg_bits: Literal[16, 24] = 24
    ecg_gain: Literal[1, 2, 3, 4, 6, 8, 12] = 4
    crc: bool = True
    time_bits: Literal[0, 16, 24] = 0
    adc_v: _Positive = 3.0
    rf0_kohm: _Positive = 40.2
    rf1_kohm: _Positive = 287.0
    rf2_kohm: _Positive = 1000.0
    rf3_kohm: _Positive = 3300.0
    ecg_reference_mv: _Positive = 2420.0

    @property
    def units(self) -> tuple[str, ...]:
        """Which boards may be in it."""
        return ("gsr", "exg") if self.unit == "auto" else (self.unit,)

    def divider(self, unit: str) -> int:
        """Ticks of the device's clock between two packets."""
        rate_hz = self.rate_hz or DEFAULT_RATES_HZ[unit]
        return round(CLOCK_HZ / max(rate_hz, 1.0))

    def channels(self, unit: str) -> tuple[int, ...]:
        """Ids that are asked for. The device answers in an order of its own."""
        if unit == "gsr":
            return (GSR,) if self.ppg == "none" else (GSR, _PPG_CHANNELS[self.ppg])
        chips = EXG_24 if self.ecg_bits == 24 else EXG_16
        # The reference electrode is driven by the first chip, so that is on for either.
        return chips[0] if self.ecg_chip == 0 else (*chips[0], *chips[1])

    @property
    def ecg_chip(self) -> int:
        """The chip that measures the lead, 0 or 1."""
        return _LEADS[self.lead][0]

    @property
    def ecg_channel(self) -> int:
        """Id of the lead's channel."""
        chip, channel = _LEADS[self.lead]
        return (EXG_24 if self.ecg_bits == 24 else EXG_16)[chip][channel]

    def registers(self, chip: int) -> bytes:
        """What to write to a chip's ten registers for ECG: as its maker's software does, at this rate and gain."""
        rates_hz = (125, 250, 500, 1000, 2000, 4000, 8000)
        wanted_hz = CLOCK_HZ / self.divider("exg")
        rate = next(k for k, rate_hz in enumerate(rates_hz) if rate_hz >= wanted_hz)
        gain = _GAIN_BITS[self.ecg_gain] << 4
        if chip == 0:
            return bytes([rate, 0xA0, 0x10, gain, gain, 0x2D, 0x00, 0x00, 0x02, 0x03])
        return bytes([rate, 0xA0, 0x10, gain, gain | 0x07, 0x00, 0x00, 0x00, 0x02, 0x01])

    def gain_of(self, registers: bytes) -> int | None:
        """The lead's gain by what its chip's registers hold; None for a value that stands for none."""
        return GAINS.get(registers[_FIRST_CHANNEL_REGISTER - 1 + _LEADS[self.lead][1]] >> 4 & 7)


def eda_us(raw: Raw, options: ShimmerOptions) -> npt.NDArray[np.float64]:
    """EDA in µS of GSR values: range in bits 15:14, ADC in 11:0. In the highest range ADC below 683 says nothing."""
    counts, ranges = (raw & 0xFFF).astype(np.float64), raw >> 14
    volts = np.where(ranges == 3, np.maximum(counts, LEAST_OF_RANGE_3), counts) * options.adc_v / 4095
    resistors = np.array([options.rf0_kohm, options.rf1_kohm, options.rf2_kohm, options.rf3_kohm])
    values: npt.NDArray[np.float64] = 1000.0 * (volts / 0.5 - 1.0) / resistors[ranges]
    return values


def ppg_mv(raw: Raw, options: ShimmerOptions) -> npt.NDArray[np.float64]:
    """PPG in mV at the ADC."""
    values: npt.NDArray[np.float64] = (raw & 0xFFF) * options.adc_v * 1000.0 / 4095
    return values


def ecg_step_mv(gain: int, options: ShimmerOptions) -> float:
    """mV of one count of ExG. Of 24 bits, the 16-bit value has bits 22 to 7: a count is 128 of the others."""
    step_mv = options.ecg_reference_mv / gain / (2**23 - 1)
    return step_mv if options.ecg_bits == 24 else options.ecg_reference_mv / (2 * gain) / (2**15 - 1)


def at_an_end(raw: Raw, modality: Modality, options: ShimmerOptions) -> Flags:
    """Which raw values are at an end of the ADC, or of what a range can tell."""
    if modality is Modality.ECG:
        most = 1 << options.ecg_bits - 1
        return np.isin(raw, (-most, most - 1))
    counts = raw & 0xFFF
    ends: Flags = (counts == 0) | (counts == 0xFFF)
    if modality is Modality.EDA:
        ends |= (raw >> 14 == 3) & (counts < LEAST_OF_RANGE_3)
    return ends
