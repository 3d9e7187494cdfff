"""What `joyful evaluate --details` prints on a narrow screen."""

from __future__ import annotations

from joyful_ray.assess.groups import LINES, REPEATED
from joyful_ray.console.assessments import show_assessment
from joyful_ray.records import Assessment, Calibration, GroupScore, Interval, ModalityShift
from tests.narrow_screen import lines_of, narrow_screen

BOUNDS = Interval(low=0.612, high=0.69)
FOUND = Assessment(
    task="single-label",
    utterances=12_610,
    loss=1.0,
    values={"weighted_f1": 0.65},
    conversations=1_280,
    intervals={"weighted_f1": BOUNDS},
    calibration=Calibration(
        error=0.1, interval=BOUNDS, temperature=1.3, error_at_temperature=0.05, interval_at_temperature=BOUNDS
    ),
    groups={
        LINES: [
            GroupScore(
                group=REPEATED,
                utterances=12_610,
                conversations=1_280,
                score=0.65,
                interval=BOUNDS,
                gap=0.02,
                gap_interval=Interval(low=-0.01, high=0.05),
            )
        ],
        "speaker": [GroupScore(group="(1 other)", utterances=1, conversations=1, score=0.0, interval=None)],
    },
    shift={
        "vision": ModalityShift(
            present_share=1.0,
            mean_shift=10.25,
            largest_mean_shift=12.5,
            width_ratio=1.25,
            width_low=0.75,
            width_high=12.75,
            far_share=0.999,
        )
    },
)


def test_groups_and_shift_fit_80_columns_without_broken_cells() -> None:
    screen = narrow_screen()
    show_assessment(screen, FOUND, split="test", details=True)
    lines = lines_of(screen)
    groups = lines.index(next(line for line in lines if line.startswith(LINES)))
    tables = lines[groups:]
    assert not [line for line in tables if len(line) > 80]
    assert tables[1].startswith(f"{REPEATED} ")
    assert tables[1].endswith("0.650 [0.612, 0.690]")
    assert any(line.endswith("+0.020 [-0.010, +0.050]") for line in tables)
    assert [line for line in tables if line.startswith("(1 other)")][-1].split() == ["(1", "other)", "1", "1", "0.000"]
    assert tables[-1].split() == ["vision", "100.0%", "10.25", "12.50", "1.25", "(0.75", "to", "12.75)", "99.9%"]


def test_calibration_names_the_temperature() -> None:
    screen = narrow_screen()
    show_assessment(screen, FOUND, split="test", details=False)
    lines = [line for line in lines_of(screen) if line.startswith("calibration")]
    assert lines == [
        "calibration error: 0.100 [0.612, 0.690]",
        "calibration error at temperature 1.30 (fitted on dev): 0.050 [0.612, 0.690]",
    ]
