"""What one look found, and what to do about it."""

from __future__ import annotations

from enum import Enum

import msgspec


class Status(str, Enum):
    """How it stands. NOT_CHECKED: it could not be looked at here; `found` says why."""

    OK = "ok"
    WARNING = "warning"
    FAILS = "fails"
    NOT_CHECKED = "not checked"

    def __str__(self) -> str:
        return self.value


class Check(msgspec.Struct, frozen=True):
    """name: what was looked at. found: what there is. todo: what to do about it; empty where nothing."""

    name: str
    status: Status
    found: str
    todo: str = ""


def ok(name: str, found: str) -> Check:
    """Nothing to do."""
    return Check(name, Status.OK, found)


def warning(name: str, found: str, todo: str) -> Check:
    """It works, and may cost samples or time."""
    return Check(name, Status.WARNING, found, todo)


def fails(name: str, found: str, todo: str) -> Check:
    """It cannot work like this."""
    return Check(name, Status.FAILS, found, todo)


def not_checked(name: str, why: str) -> Check:
    """It cannot be looked at here."""
    return Check(name, Status.NOT_CHECKED, why)
