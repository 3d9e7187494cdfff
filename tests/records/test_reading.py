from __future__ import annotations

import pytest

from joyful_ray.errors import CheckpointError
from joyful_ray.records import Interval, read_as, read_lines_as

LINE = '{"low":0.25,"high":0.5}\n'


def test_a_record_is_read_as_it_was_written() -> None:
    assert read_as(Interval, LINE, place="here.json") == Interval(low=0.25, high=0.5)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Invalid JSON"),
        ('{"low":0.25}', "high: Field required"),
        ('{"low":0.25,"high":0.5,"middle":0.4}', "middle: Extra inputs are not permitted"),
    ],
)
def test_a_damaged_record_is_refused_with_its_place_and_field(text: str, reason: str) -> None:
    with pytest.raises(CheckpointError, match=f"here.json is damaged, or was written by another version .*{reason}"):
        read_as(Interval, text, place="here.json")


def test_an_incomplete_last_line_is_skipped() -> None:
    assert read_lines_as(Interval, LINE + '{"low":0.2', place="here.jsonl") == [Interval(low=0.25, high=0.5)]


def test_a_damaged_line_is_named_by_its_number() -> None:
    with pytest.raises(CheckpointError, match=r"here\.jsonl:2 is damaged"):
        read_lines_as(Interval, LINE + "{}\n" + LINE, place="here.jsonl")
