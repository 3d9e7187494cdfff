"""What a check reports."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, computed_field

Status = Literal["ok", "warn", "fail"]
GIB = 2**30


class Check(BaseModel):
    """One line of the report. `advice` says what to do; it is empty if all is well."""

    model_config = ConfigDict(frozen=True)

    name: str
    status: Status
    found: str
    advice: str = ""


class DoctorReport(BaseModel):
    """The whole report."""

    model_config = ConfigDict(frozen=True)

    checks: list[Check]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def is_healthy(self) -> bool:
        """Whether nothing fails; warnings do not count."""
        return all(check.status != "fail" for check in self.checks)
