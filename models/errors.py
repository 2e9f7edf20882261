"""The exception tree. Every error says what happened, why, and what fixes it.

GausstalkError           1   a fault of ours, or one that has no better class
├── UsageError           2   a wrong argument, params key or record
├── InputError           3   a video or sound that cannot be used
├── MissingAssetError    4   weights, a head model or an optional package that is not here
├── ConsentError         4   no valid basis for using somebody's likeness
├── MachineError         5   disk, memory, a port, a missing device
└── BusyError            6   somebody else holds the lock
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable


class GausstalkError(Exception):
    """Base of all errors: `what` happened, `why`, the `fix`, and the process's exit code."""

    exit_code = 1

    def __init__(self, what: str, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what, self.why, self.fix = what, why, fix

    def __str__(self) -> str:
        lines = [f"error: {self.what}"]
        if self.why:
            lines.append(f"why:   {self.why}")
        if self.fix:
            lines.append(f"fix:   {self.fix}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        return type(self), (self.what, self.why, self.fix)


class UsageError(GausstalkError):
    """A wrong argument, params key, speaker name or record."""

    exit_code = 2


class InputError(GausstalkError):
    """A video or a sound that cannot be used as it is."""

    exit_code = 3


class MissingAssetError(GausstalkError):
    """Weights, a head model or an optional package that is not on this machine."""

    exit_code = 4


class ConsentError(GausstalkError):
    """No valid basis for using somebody's likeness."""

    exit_code = 4


class MachineError(GausstalkError):
    """The machine is in the way: disk, memory, a port, a missing device."""

    exit_code = 5


def did_you_mean(name: object, known: Iterable[str], otherwise: str = "") -> str:
    """Return what mends a name that is not known: the nearest of those that are, else what stands in `otherwise`."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else otherwise


FULL = (errno.ENOSPC, errno.EDQUOT)
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


def of_the_machine(error: BaseException) -> MachineError | None:
    """Return what a full disk or a folder that cannot be written means to a user, None for any other error."""
    number = getattr(error, "errno", None)
    if number in FULL:
        return MachineError("the disk is full", str(error), "free some space, then run it again")
    if number in READ_ONLY:
        return MachineError(
            "a file cannot be read or written", str(error), "change its permissions, or use a folder of your own"
        )
    return None


class BusyError(GausstalkError):
    """Another process holds what this one needs."""

    exit_code = 6
