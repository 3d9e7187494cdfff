"""The list of jobs on a cluster, as a person sees it."""

from __future__ import annotations

from joyful_ray.console.jobs import show_job, show_jobs
from joyful_ray.submit.jobs import JobEntry
from tests.narrow_screen import assert_fits, lines_of, narrow_screen


def entry(job: str, status: str = "SUCCEEDED", **more: object) -> JobEntry:
    values: dict[str, object] = {
        "run": "first",
        "command": "joyful train jobs/demo.yaml",
        "started": 1.7e9,
        "seconds": 75,
    }
    return JobEntry.model_validate({"job": job, "status": status} | values | more)


def test_the_list_fits_80_columns_with_long_ids_and_commands() -> None:
    screen = narrow_screen()
    long_id = "a-run-with-a-name-of-many-words-20261122-113717-ab12"
    command = "joyful train jobs/demo.yaml --name first " + "--set corpus=s3://bucket/joyful/corpora/small " * 3
    entries = [entry("first-20261122-113717-ab12", command=command), entry(long_id, "FAILED", seconds=40_000)]
    show_jobs(screen, [*entries, entry("second-20261122-113717-ab12", "PENDING", started=None, seconds=None)])
    lines = assert_fits(screen)
    assert lines[0].split() == ["job", "status", "started", "run", "time"]
    assert lines[1].split()[:2] == ["first-20261122-113717-ab12", "SUCCEEDED"]
    assert lines[1].endswith("1 min 15 s")
    assert lines[2].endswith("…")
    assert lines[3] == long_id
    assert lines[4].split()[0] == "FAILED"
    assert lines[4].endswith("11 h 06 min")
    assert lines[6].endswith("PENDING    not yet")


def test_no_jobs_is_one_line() -> None:
    screen = narrow_screen()
    show_jobs(screen, [])
    assert lines_of(screen) == ["no jobs"]


def test_a_failed_job_shows_its_error() -> None:
    screen = narrow_screen()
    show_job(screen, entry("first-1", "FAILED", error="rank 1: ValueError: bad vector"))
    lines = assert_fits(screen)
    assert lines[0] == "first-1: FAILED"
    assert lines[1] == "error     rank 1: ValueError: bad vector"
    assert lines[-1] == "run time  1 min 15 s"
