"""What Ray's processes report becomes single lines, and none of them twice in a minute."""

from __future__ import annotations

import pytest
from ray._private import worker

from joyful_ray.train.on_ray import messages
from joyful_ray.train.on_ray.messages import Messages, first_line, shortening_messages

MEMORY = (
    "Task _map_task failed due to oom. There are {left} oom retries remaining, so the task will be retried. Error: 1 "
    "worker(s) were killed due to the node running low on memory. Memory on the node (IP: 192.0.2.2, ID: 245d{left}) "
    "was 1.{left}9GB used / 23.54GB limit\nOOM kill reason: …\nTop 10 memory users: …"
)


def test_a_page_becomes_its_first_line() -> None:
    assert first_line("\n  the cause \nand more") == "the cause"
    assert len(first_line("x" * 1000)) == messages.LONGEST + len(" …")
    assert first_line("\n \n") == ""


def test_messages_that_differ_in_numbers_alone_are_printed_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now, lines = [1000.0], []
    monkeypatch.setattr(messages.time, "monotonic", lambda: now[0])
    found = Messages(lines.append)
    for left in (3, 2, 1):
        found.add(MEMORY.format(left=left))
    found.add("joyful: rank 0: StorageError: no space")
    assert [line[:27] for line in lines] == ["Ray: Task _map_task failed ", "joyful: rank 0: StorageErro"]
    now[0] += messages.REPEAT_S
    found.add(MEMORY.format(left=0))
    assert len(lines) == 3


def test_only_what_rays_own_processes_report_is_shortened(capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    with shortening_messages(lines.append):
        worker.print_to_stdstream({"lines": ["one\ntwo"], "pid": "raylet", "is_err": False}, ignore_prefix=False)
        worker.print_to_stdstream({"lines": ["of a worker"], "pid": 17, "ip": "192.0.2.2", "is_err": True}, False)
    assert lines == ["Ray: one"]
    assert "of a worker" in capsys.readouterr().err
    assert worker.print_to_stdstream.__module__ == worker.__name__, "Ray prints as before"
