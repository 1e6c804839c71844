"""Figures printed in the paper that ours are set beside.

"A CrossMod-Transformer deep learning framework for multi-modal pain detection through EDA and ECG fusion",
Scientific Reports, 2025: Tables 4 to 9, and the section on computational efficiency with its Figure 8. Models have our
names: `transformer.eda` is its EDA FCN-ALSTM-Transformer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# MFLOPS of each sub-network; the paper does not say what it counts as one. The Transformer block has no number.
MFLOPS = {"FCN": 73.28, "ALSTM": 55.82, "CrossMod": 442.76, "all sub-networks": 1030.0}
INFERENCE_MS = 134.0
INFERENCE_MACHINE = "Intel i7-13650HX CPU, PyTorch 2.1.2, threads not stated"

# Table 4: epochs, range that the learning rate was searched in, range of the dropout, schedule.
STAGES = {
    "fcn": ("900", "1e-6 to 1e-3", "0.1 to 0.4", "MultiStep [500]"),
    "alstm": ("500", "1e-6 to 1e-3", "0.1 to 0.4", "MultiStep [300]"),
    "transformer": ("100", "1e-6 to 1e-3", "0.1 to 0.4", "MultiStep [80]"),
    "crossmod": ("50", "1e-6 to 1e-3", "0.3 to 0.7", "none"),
}


@dataclass(frozen=True)
class PrintedRow:
    """One model, in per cent: metric → (mean, SD or None), and the 95 % confidence interval of F1 if printed."""

    scores: Mapping[str, tuple[float, float | None]]
    f1_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class OtherWork:
    """A row of the comparison with other works, as printed. accuracy: per cent. number: of the reference."""

    authors: str
    number: int
    signals: str
    method: str
    accuracy: float


@dataclass(frozen=True)
class PrintedTable:
    """A table of results.

    subjects: how many people, None where it is not said. p_values: Wilcoxon, of the first model against the second.
    others_from: the table that `others` is from.
    """

    name: str
    subjects: int | None
    rows: Mapping[str, PrintedRow]
    others_from: str
    others: tuple[OtherWork, ...]
    p_values: Mapping[tuple[str, str], float] = field(default_factory=dict)


_Shares = tuple[float, float]


def _with_sd(
    accuracy: _Shares, sensitivity: _Shares, specificity: _Shares, f1: _Shares, interval: _Shares
) -> PrintedRow:
    scores = {"accuracy": accuracy, "sensitivity": sensitivity, "specificity": specificity, "f1": f1}
    return PrintedRow(scores, interval)


def _plain(accuracy: float, precision: float, f1: float) -> PrintedRow:
    return PrintedRow({"accuracy": (accuracy, None), "precision": (precision, None), "f1": (f1, None)})


TABLE_5 = PrintedTable(
    "Table 5",
    87,
    {
        "fcn.ecg": _with_sd((61.82, 5), (40.79, 15), (82.84, 8), (50.03, 13), (40.16, 59.91)),
        "alstm.ecg": _with_sd((62.84, 5), (47.27, 17), (78.41, 13), (54.36, 12), (45.69, 63.04)),
        "transformer.ecg": _with_sd((64.94, 5), (49.10, 13), (80.79, 12), (57.35, 10), (49.55, 65.16)),
        "fcn.eda": _with_sd((78.46, 3), (69.96, 10), (86.95, 6), (76.08, 6), (71.76, 80.42)),
        "alstm.eda": _with_sd((82.45, 6), (76.52, 12), (88.38, 6), (78.76, 7), (73.19, 84.35)),
        "transformer.eda": _with_sd((85.21, 3), (81.13, 9), (89.29, 6), (84.37, 4), (80.86, 87.89)),
        "crossmod": _with_sd((85.92, 4), (80.64, 8), (91.20, 3), (84.93, 5), (80.97, 88.91)),
    },
    "Table 8",
    (
        OtherWork("Lopez-Martinez et al.", 23, "ECG", "Multi-task Neural Networks", 62.50),
        OtherWork("Farmani et al.", 48, "ECG", "Attention-CNN-LSTM", 64.86),
        OtherWork("Lopez-Martinez et al.", 23, "EDA", "Multi-task Neural Networks", 79.98),
        OtherWork("Farmani et al.", 48, "EDA", "Attention-CNN-LSTM", 82.69),
        OtherWork("Lopez-Martinez et al.", 23, "EDA, ECG", "Multi-task Neural Networks", 82.75),
        OtherWork("Farmani et al.", 48, "EDA, Video", "Attention-CNN-LSTM", 83.35),
    ),
    {
        ("transformer.ecg", "fcn.ecg"): 0.0039,
        ("transformer.eda", "fcn.eda"): 0.00195,
        ("transformer.eda", "alstm.eda"): 0.00977,
        ("crossmod", "transformer.ecg"): 0.00195,
        ("crossmod", "transformer.eda"): 0.1975,
    },
)

TABLE_6 = PrintedTable(
    "Table 6",
    87,
    {
        "fcn.ecg": _with_sd((62.27, 13), (39.65, 32), (84.88, 20), (51.24, 27), (40.71, 52.69)),
        "alstm.ecg": _with_sd((63.59, 12), (43.33, 29), (83.85, 16), (54.34, 25), (45.73, 56.42)),
        "transformer.ecg": _with_sd((65.17, 12), (44.48, 29), (86.39, 15), (55.47, 23), (50.01, 60.21)),
        "fcn.eda": _with_sd((80.05, 15), (79.13, 27), (80.97, 23), (79.87, 22), (72.84, 82.22)),
        "alstm.eda": _with_sd((84.56, 13), (78.21, 25), (90.92, 9), (83.52, 20), (76.81, 85.47)),
        "transformer.eda": _with_sd((86.12, 13), (84.36, 21), (87.87, 17), (85.87, 16), (81.10, 88.34)),
        "crossmod": _with_sd((87.52, 11), (84.59, 17), (89.86, 13), (87.15, 13), (84.26, 90.06)),
    },
    "Table 8",
    (
        OtherWork("Phan et al.", 12, "ECG", "1D CNN, biLSTM", 61.20),
        OtherWork("Werner et al.", 22, "ECG", "Domain-specific features, Rand. Forest", 62.00),
        OtherWork("Kächele et al.", 49, "ECG", "SVM", 62.40),
        OtherWork("Gkikas et al.", 46, "ECG", "Transformer", 67.04),
        OtherWork("Werner et al.", 22, "EDA", "Domain-specific features, Rand. Forest", 73.80),
        OtherWork("Kächele et al.", 49, "EDA", "RF", 74.40),
        OtherWork("Pouromran et al.", 11, "EDA", "SVM", 83.30),
        OtherWork("Gouverneur et al.", 50, "EDA", "MLP-RF", 84.22),
        OtherWork("Phan et al.", 12, "EDA", "1D CNN, biLSTM", 84.80),
        OtherWork("Lu et al.", 19, "EDA", "Transformer-based", 85.56),
        OtherWork("Werner et al.", 22, "EDA, ECG, EMG", "Rand. Forest", 74.10),
        OtherWork("Werner et al.", 22, "EDA, ECG, EMG, Video", "Facial landmarks, 3D distances, Rand. Forest", 77.80),
        OtherWork("Kächele et al.", 49, "EDA, ECG, Video", "Facial landmarks, RF", 78.90),
        OtherWork("Kächele et al.", 14, "EDA, ECG, EMG", "RF, k-NN", 82.73),
        OtherWork("Gkikas et al.", 46, "ECG, Video", "Transformer-based", 82.74),
        OtherWork("Kächele et al.", 51, "EDA, ECG, EMG, Video", "LBP, RF", 83.10),
        OtherWork("Wang et al.", 24, "EDA, ECG, EMG", "HCF, biLSTM", 83.30),
        OtherWork("Phan et al.", 12, "EDA, ECG", "1D CNN, biLSTM", 84.80),
    ),
    {
        ("transformer.ecg", "fcn.ecg"): 3.41e-11,
        ("transformer.ecg", "alstm.ecg"): 2.64e-3,
        ("transformer.eda", "fcn.eda"): 2.28e-8,
        ("transformer.eda", "alstm.eda"): 6.58e-6,
        ("crossmod", "transformer.ecg"): 1.73e-15,
        ("crossmod", "transformer.eda"): 4.20e-4,
    },
)

TABLE_7 = PrintedTable(
    "Table 7",
    None,
    {
        "fcn.bvp": _plain(68.51, 69.47, 70.48),
        "alstm.bvp": _plain(70.52, 71.37, 70.04),
        "transformer.bvp": _plain(71.27, 72.31, 70.76),
        "fcn.eda": _plain(69.72, 70.08, 71.84),
        "alstm.eda": _plain(72.04, 72.89, 71.42),
        "transformer.eda": _plain(73.17, 74.90, 72.95),
        "crossmod": _plain(75.83, 77.09, 74.63),
    },
    "Table 9",
    (
        OtherWork("Gkikas et al.", 52, "Video, fNIRS", "Transformer", 46.67),
        OtherWork("Prajod et al.", 53, "Video", "2D CNN", 49.00),
        OtherWork("Khan et al.", 54, "fNIRS", "Ensemble Learning", 53.66),
        OtherWork("Nguyen et al.", 55, "Video", "Transformer", 55.00),
        OtherWork("Vianto et al.", 56, "Video, fNIRS", "Hybrid CNN-Transformer", 51.33),
        OtherWork("Gkikas et al.", 47, "Video, fNIRS", "Transformer", 55.69),
        OtherWork("Bargshady et al.", 9, "Video", "Transformer", 66.96),
        OtherWork("Fernandez-Rojas et al.", 35, "EDA", "Gaussian SVM", 45.60),
        OtherWork("Fernandez-Rojas et al.", 35, "BVP", "Gaussian SVM", 56.25),
        OtherWork("Fernandez-Rojas et al.", 35, "EDA, BVP", "Gaussian SVM", 52.77),
    ),
)
