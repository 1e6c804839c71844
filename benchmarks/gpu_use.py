"""The share of time in which a GPU works, as nvidia-smi says it."""

from __future__ import annotations

import subprocess
import threading
from statistics import fmean
from types import TracebackType

QUERY = ("nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits")
EVERY_S = 0.2
ANSWERS_WITHIN_S = 30.0


class GpuUse:
    """Watches a GPU from entry to exit.

    percent: mean of the shares of time in which any kernel ran; None with the reason in `why_not`. uuid: as in
    nvidia-smi, without its prefix; None where there is no GPU.
    """

    def __init__(self, uuid: str | None) -> None:
        self._uuid = uuid
        self._shares: list[float] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.percent: float | None = None
        self.why_not = ""

    def __enter__(self) -> GpuUse:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        if self._shares:
            self.percent = fmean(self._shares)

    def _watch(self) -> None:
        if self._uuid is None:
            self.why_not = "there is no GPU"
            return
        try:
            while True:
                command = (*QUERY, f"--id=GPU-{self._uuid}")
                said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=ANSWERS_WITHIN_S)
                self._shares.append(float(said.stdout))
                if self._done.wait(EVERY_S):
                    return
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            self._shares.clear()
            self.why_not = f"nvidia-smi does not say it ({error})"
