"""What was found, rule by rule."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from edgepain.firmware_bridge.conformance.rules import RULES, Rule

_EXCERPT_BYTES = 32


class Verdict(str, Enum):
    """NOTE: allowed, but worth knowing. NOT_SEEN: nothing on the wire could tell."""

    PASS = "pass"
    NOTE = "note"
    FAIL = "fail"
    NOT_SEEN = "not seen"


@dataclass(frozen=True)
class Finding:
    """One rule's outcome. seen: the first offence, or what was measured. times: offences. excerpt: bytes, in hex."""

    rule: Rule
    verdict: Verdict
    seen: str = ""
    times: int = 0
    excerpt: str = ""


class Ledger:
    """Collects verdicts. A rule that failed once has failed; the first offence is kept, and all are counted."""

    def __init__(self) -> None:
        self._findings: dict[str, Finding] = {}

    def passed(self, name: str, seen: str = "") -> None:
        """Something to judge was there, and was right. seen: replaces what was said before."""
        before = self._findings.get(name)
        if before is None or (before.verdict is Verdict.PASS and seen):
            self._findings[name] = Finding(RULES[name], Verdict.PASS, seen)

    def also_passed(self, name: str, seen: str) -> None:
        """As `passed`, beside what was said before."""
        before = self._findings.get(name)
        self.passed(name, f"{before.seen}; {seen}" if before is not None and before.seen else seen)

    def failed(self, name: str, seen: str, raw: bytes = b"") -> None:
        """An offence. raw: the encoded block."""
        self._offence(name, Verdict.FAIL, seen, raw)

    def noted(self, name: str, seen: str, raw: bytes = b"") -> None:
        """Nothing forbidden, but worth knowing."""
        before = self._findings.get(name)
        if before is None or before.verdict is not Verdict.FAIL:
            self._offence(name, Verdict.NOTE, seen, raw)

    def findings(self) -> list[Finding]:
        """All rules, in their order."""
        return [self._findings.get(name, Finding(rule, Verdict.NOT_SEEN)) for name, rule in RULES.items()]

    def _offence(self, name: str, verdict: Verdict, seen: str, raw: bytes) -> None:
        before = self._findings.get(name)
        if before is not None and before.verdict is verdict:
            self._findings[name] = Finding(before.rule, verdict, before.seen, before.times + 1, before.excerpt)
        else:
            self._findings[name] = Finding(RULES[name], verdict, printable(seen), 1, excerpt(raw))


def excerpt(raw: bytes) -> str:
    """The first bytes in hex, with how many there are."""
    if not raw:
        return ""
    more = f" … ({len(raw)} bytes)" if len(raw) > _EXCERPT_BYTES else ""
    return raw[:_EXCERPT_BYTES].hex(" ") + more


def printable(text: str) -> str:
    """What a device said, safe to show on a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)
