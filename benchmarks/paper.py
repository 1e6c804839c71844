"""Figures printed in the paper that this one is measured beside.

"A CrossMod-Transformer deep learning framework for multi-modal pain detection through EDA and ECG fusion",
Scientific Reports, 2025: section on computational efficiency, and its Figure 8.
"""

from __future__ import annotations

# MFLOPS of each sub-network; the paper does not say what it counts as one. The Transformer block has no number.
MFLOPS = {"FCN": 73.28, "ALSTM": 55.82, "CrossMod": 442.76, "all sub-networks": 1030.0}
INFERENCE_MS = 134.0
INFERENCE_MACHINE = "Intel i7-13650HX CPU, PyTorch 2.1.2, threads not stated"
