"""Whether this machine, Ray, storage and package versions are fit to train, and what to fix if they are not."""

from joyful_ray.doctor.checks import Check, DoctorReport
from joyful_ray.doctor.examination import run_checks

__all__ = ["Check", "DoctorReport", "run_checks"]
