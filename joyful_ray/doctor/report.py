"""The result of `joyful doctor`: one entry per check."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, computed_field

Status = Literal["ok", "warn", "fail"]
GIB = 2**30


class Check(BaseModel):
    """The result of one check.

    Attributes:
        name: what was checked.
        status: "fail" means that training cannot run; "warn" means that it may be slow or may stop.
        found: what was found.
        advice: what to do; empty if the status is "ok".
    """

    model_config = ConfigDict(frozen=True)

    name: str
    status: Status
    found: str
    advice: str = ""


class DoctorReport(BaseModel):
    """The results of all checks."""

    model_config = ConfigDict(frozen=True)

    checks: list[Check]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def is_healthy(self) -> bool:
        """Whether no check failed; warnings do not count."""
        return all(check.status != "fail" for check in self.checks)
