"""Two reports of `edgepain bench --json` side by side."""

from __future__ import annotations

from pathlib import Path

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from edgepain.benchmarks.machine import Machine
from edgepain.benchmarks.report import SCHEMA, EngineRow, Report
from edgepain.benchmarks.tables import NAMES, or_na
from edgepain.errors import DataError


def read_report(path: Path) -> Report:
    """A report that `edgepain bench --json` printed. Raises DataError where the file is none of this release."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise DataError(
            f"{path} is no report of `edgepain bench --json` with schema {SCHEMA} ({error}); measure it again"
        ) from error


def compare(first: Path, second: Path, console: Console) -> None:
    """Print both reports' engines and how many times faster the second is."""
    a, b = read_report(first), read_report(second)
    for name, report in (("A", a), ("B", b)):
        console.print(f"{name}: {report.bundle!r}, {_where(report.machine)}", highlight=False, markup=False)
    table = Table(title="Median ms a window, accuracy, peak MB", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("engine", no_wrap=True)
    for heading in ("A ms", "B ms", "A / B", "A right", "B right", "A MB", "B MB"):
        table.add_column(heading, justify="right")
    rows_b = {row.engine: row for row in b.engines}
    for row in a.engines:
        table.add_row(NAMES[row.engine], *_cells(row, rows_b.get(row.engine)))
    console.print(table)
    for remark in _remarks(a, b):
        console.print(f"Note: {remark}", highlight=False, markup=False)


def _cells(a: EngineRow, b: EngineRow | None) -> list[str]:
    pair = (a, b)
    medians = [row.latency.p50_ms if row and row.latency else None for row in pair]
    accuracies = [row.accuracy if row else None for row in pair]
    peaks = [row.latency.peak_mb if row and row.latency else None for row in pair]
    ratio = medians[0] / medians[1] if medians[0] and medians[1] else None
    return [
        *(or_na(ms, ".2f") for ms in medians),
        or_na(ratio, ".2f"),
        *(or_na(accuracy, ".1%") for accuracy in accuracies),
        *(or_na(mb, ".0f") for mb in peaks),
    ]


def _where(machine: Machine) -> str:
    return f"{machine.processor}, {machine.logical_cpus} CPUs, load {or_na(machine.load_average, '.2f')}"


def _remarks(a: Report, b: Report) -> list[str]:
    remarks = []
    if a.network != b.network:
        remarks.append("the networks differ, so their latencies are those of different work")
    if a.machine.processor != b.machine.processor:
        remarks.append("the processors differ")
    if changed := sorted(k for k in a.machine.packages if a.machine.packages[k] != b.machine.packages.get(k)):
        remarks.append(f"other versions of {', '.join(changed)}")
    if (a.bundle, a.golden_windows) != (b.bundle, b.golden_windows):
        remarks.append("accuracies are on the golden windows of each bundle, which may be other windows")
    return remarks
