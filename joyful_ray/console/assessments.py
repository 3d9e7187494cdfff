"""Prints the scores of a model on a corpus, with intervals and calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from joyful_ray.console.runs import show_scores
from joyful_ray.console.screen import Screen
from joyful_ray.wording import counted, metric_name

if TYPE_CHECKING:
    from joyful_ray.records import Assessment, GroupScore, Interval

SELECTED_BY = {"single-label": "weighted F1", "multi-label": "binary weighted F1", "regression": "MAE"}


def show_assessment(screen: Screen, found: Assessment, *, split: str, details: bool) -> None:
    """Print scores with their intervals and calibration.

    Args:
        found: the assessment.
        split: the split that was scored.
        details: also print scores by group, and the shift of the features.
    """
    columns = {split: found} if found.raw is None else {"raw": found.raw, "mapped": found}
    show_scores(screen, columns)
    screen.say()
    if found.label_map is not None:
        screen.say(
            f"labels mapped from {found.label_map['from']} to {found.label_map['to']}, which drops "
            f"{counted(found.left_out, 'utterance')}; raw scores include them"
        )
    for name, interval in found.intervals.items():
        screen.say(f"{metric_name(name)}: {bounded(found.values[name], interval)}")
    if found.calibration is not None:
        for line in _calibration_lines(found):
            screen.say(line)
    if not details:
        screen.say("add --details for scores by speaker, length, position and modality, gaps, and feature shift")
        return
    for name, groups in found.groups.items():
        screen.say()
        header = [name, "utterances", "conversations", SELECTED_BY[found.task], "gap to all others"]
        screen.wide_table(header, [_group_row(group) for group in groups], title=f"Scores by {name}")
    if found.shift:
        screen.say()
        rows = [
            [
                name,
                f"{shift.present_share:.1%}",
                f"{shift.mean_shift:.2f}",
                f"{shift.largest_mean_shift:.2f}",
                f"{shift.width_ratio:.2f} ({shift.width_low:.2f} to {shift.width_high:.2f})",
                f"{shift.far_share:.1%}",
            ]
            for name, shift in found.shift.items()
        ]
        header = ["", "present", "mean shift", "largest", "spread ratio", "far outside"]
        screen.table(header, rows, title="Shift of the features, in standard deviations of the training data")


def bounded(value: float, interval: Interval | None, *, signed: bool = False) -> str:
    """Return a value with its 95 % interval; `signed` writes the sign of positive numbers, too."""
    form = "+.3f" if signed else ".3f"
    return f"{value:{form}}" + (f" [{interval.low:{form}}, {interval.high:{form}}]" if interval is not None else "")


def _calibration_lines(found: Assessment) -> list[str]:
    calibration = found.calibration
    assert calibration is not None
    line = f"calibration error: {bounded(calibration.error, calibration.interval)}"
    if calibration.temperature is None or calibration.error_at_temperature is None:
        return [line, "the bundle has no temperature, because an earlier version wrote it"]
    error = bounded(calibration.error_at_temperature, calibration.interval_at_temperature)
    return [line, f"calibration error at temperature {calibration.temperature:.2f} (fitted on dev): {error}"]


def _group_row(group: GroupScore) -> list[str]:
    return [
        group.group,
        f"{group.utterances:,}",
        f"{group.conversations:,}",
        bounded(group.score, group.interval),
        "" if group.gap is None else bounded(group.gap, group.gap_interval, signed=True),
    ]
