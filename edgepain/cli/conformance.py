"""`edgepain conformance`: what is wrong with a device's edgeframe stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edgepain.firmware_bridge.conformance import Finding


@click.command("conformance")
@click.argument("port")
@click.option("--baud", default=115_200, show_default=True, type=click.IntRange(1), help="Of the line.")
@click.option("--seconds", default=10.0, show_default=True, type=click.FloatRange(3, 86400), help="How long to listen.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output, nothing else.")
def command(port: str, baud: int, seconds: float, as_json: bool) -> int:
    """Check the firmware on PORT against every rule of edgeframe (docs/edgeframe.md), and say what to mend.

    It listens, asks for HELLO and the time, and sends a command that no firmware knows. For each rule: pass, note
    (allowed, worth knowing), FAIL with the first offending bytes and what to do, or not seen. Exit code 0: no rule is
    broken; 1: one is; 6: port trouble.

    \b
    Examples:
      edgepain conformance /dev/ttyACM0
      edgepain conformance /dev/ttyACM0 --seconds 60 --json
    """
    import json

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    from edgepain.firmware_bridge.conformance import Verdict, check_port

    console = Console(stderr=True)
    columns = (TextColumn("listening"), BarColumn(), TextColumn("{task.completed:.0f} s"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("listening", total=seconds)
        findings = check_port(port, baud, seconds, lambda done_s: progress.update(task, completed=done_s))
    conforms = all(finding.verdict is not Verdict.FAIL for finding in findings)
    if as_json:
        rows = [_row(finding) for finding in findings]
        click.echo(json.dumps({"port": port, "seconds": seconds, "conforms": conforms, "rules": rows}))
    else:
        for finding in findings:
            click.echo(_lines(finding))
        click.echo(_verdict(port, findings))
    return 0 if conforms else 1


def _row(finding: Finding) -> dict[str, object]:
    return {
        "rule": finding.rule.name,
        "verdict": finding.verdict.value,
        "what": finding.rule.what,
        "seen": finding.seen,
        "times": finding.times,
        "excerpt": finding.excerpt,
        "advice": finding.rule.advice,
    }


def _lines(finding: Finding) -> str:
    from edgepain.firmware_bridge.conformance import Verdict

    head = f"{'FAIL' if finding.verdict is Verdict.FAIL else finding.verdict.value:<9} {finding.rule.name:<17}"
    if finding.verdict in (Verdict.PASS, Verdict.NOT_SEEN):
        return f"{head} {finding.seen or finding.rule.what}"
    times = f" (the first of {finding.times})" if finding.times > 1 else ""
    lines = [f"{head} {finding.rule.what}", f"  seen   {finding.seen}{times}"]
    if finding.excerpt:
        lines.append(f"  bytes  {finding.excerpt}")
    return "\n".join([*lines, f"  do     {finding.rule.advice}"])


def _verdict(port: str, findings: list[Finding]) -> str:
    from edgepain.firmware_bridge.conformance import Verdict

    count = {verdict: sum(finding.verdict is verdict for finding in findings) for verdict in Verdict}
    failed = count[Verdict.FAIL]
    says = f"breaks {failed} of {len(findings)} rules" if failed else "conforms to edgeframe 1"
    unseen = f", {count[Verdict.NOT_SEEN]} not seen" if count[Verdict.NOT_SEEN] else ""
    return f"{port}: {says} ({count[Verdict.PASS]} pass, {count[Verdict.NOTE]} notes, {failed} fail{unseen})"
