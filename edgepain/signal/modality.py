"""The signals the toolkit knows, with their units and what is physically possible."""

from __future__ import annotations

from enum import Enum


class Modality(str, Enum):
    """A physiological signal. The value is the name used in files, bundles and on the wire."""

    EDA = "eda"
    ECG = "ecg"
    BVP = "bvp"
    RESP = "resp"
    EMG = "emg"
    SPO2 = "spo2"

    def __str__(self) -> str:
        return self.value

    @property
    def unit(self) -> str:
        """Unit of the values, in ASCII: `uS` is microsiemens, `a.u.` a device's own unit."""
        return _UNIT[self]

    @property
    def column(self) -> str:
        """Name of its column in a table, with the unit: `eda_us`, `ecg_mv`, `bvp_au`."""
        unit = self.unit.lower().replace(".", "").replace("%", "percent")
        return f"{self.value}_{unit}"

    @property
    def contact_range(self) -> tuple[float, float]:
        """Values outside this closed range (in `unit`) mean that the electrode does not touch skin.

        Skin conductance below 0.01 µS is below what dry wrist electrodes give on any of 35 people
        (Stress-Predict: session medians 0.13 to 4.84 µS); an open circuit reads 0. Above 100 µS the
        electrodes are shorted.
        """
        return _CONTACT.get(self, (float("-inf"), float("inf")))


_UNIT = {
    Modality.EDA: "uS",
    Modality.ECG: "mV",
    Modality.BVP: "a.u.",
    Modality.RESP: "a.u.",
    Modality.EMG: "uV",
    Modality.SPO2: "%",
}
_CONTACT = {Modality.EDA: (0.01, 100.0)}
