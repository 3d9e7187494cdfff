"""Checks of this machine before training: versions, hardware, folders, Ray and storage."""

from joyful_ray.doctor.checks import run_checks
from joyful_ray.doctor.report import Check, DoctorReport

__all__ = ["Check", "DoctorReport", "run_checks"]
