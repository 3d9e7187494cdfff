"""What a model came to on a corpus, and how far to trust it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from joyful_ray.console.runs import show_scores
from joyful_ray.console.screen import Screen, metric_name

if TYPE_CHECKING:
    from joyful_ray.records import Assessment, GroupScore, Interval

SELECTED_BY = {"single-label": "weighted F1", "multi-label": "weighted F1", "regression": "mae"}


def show_assessment(screen: Screen, found: Assessment, *, split: str, details: bool) -> None:
    """Scores with their intervals and calibration; groups and shift where asked for."""
    columns = {split: found} if found.raw is None else {"raw": found.raw, "mapped": found}
    show_scores(screen, columns)
    screen.say()
    if found.label_map is not None:
        screen.say(
            f"labels mapped from {found.label_map['from']} to {found.label_map['to']}; "
            f"{found.left_out:,} utterances have a label that the map drops: raw counts them, mapped leaves them out"
        )
    for name, interval in found.intervals.items():
        screen.say(f"{metric_name(name)}: {bounded(found.values[name], interval)}")
    if found.calibration is not None:
        screen.say(_calibration_line(found))
    if not details:
        screen.say("by speaker, length, position and modality, and against the training features: --details")
        return
    for name, groups in found.groups.items():
        screen.say()
        header = [name, "utterances", "conversations", SELECTED_BY[found.task]]
        screen.table(header, [_group_row(group) for group in groups])
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
        header = ["", "present", "mean shift", "largest", "width ratio", "far outside"]
        screen.table(header, rows, title="Features against those of training, in training deviations")


def bounded(value: float, interval: Interval | None) -> str:
    """A value with its 95 % interval."""
    return f"{value:.3f}" + (f" [{interval.low:.3f}, {interval.high:.3f}]" if interval is not None else "")


def _calibration_line(found: Assessment) -> str:
    calibration = found.calibration
    assert calibration is not None
    line = f"calibration error {bounded(calibration.error, calibration.interval)}"
    if calibration.temperature is None or calibration.error_at_temperature is None:
        return line + "; the bundle holds no temperature, since an earlier version trained it"
    at_temperature = bounded(calibration.error_at_temperature, calibration.interval_at_temperature)
    return f"{line}, {at_temperature} at the temperature that was fitted on dev, {calibration.temperature:.2f}"


def _group_row(group: GroupScore) -> list[str]:
    return [
        group.group,
        f"{group.utterances:,}",
        f"{group.conversations:,}",
        bounded(group.score, group.interval),
    ]
