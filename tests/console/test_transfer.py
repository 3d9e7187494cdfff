"""Transfer tables on a narrow screen."""

from __future__ import annotations

from itertools import product

from joyful_ray.console.transfer import show_transfer
from joyful_ray.records import Interval, TransferCell, TransferRecord
from tests.narrow_screen import assert_fits, narrow_screen

CORPORA = ["meld", "emorynlp", "iemocap-6way", "dailydialog"]


def record() -> TransferRecord:
    bounds = Interval(low=0.641, high=0.686)
    cells = [
        TransferCell(
            trained_on=row,
            tested_on=column,
            bundle="b",
            utterances=2_610,
            conversations=280,
            score=0.664,
            interval=bounds,
            raw=0.612,
            calibration_error=0.1,
            repeating=123,
            score_unseen=0.653,
            interval_unseen=bounds,
        )
        for row, column in product([["meld"], ["emorynlp"], CORPORA], CORPORA)
    ]
    return TransferRecord(
        name="out-of-domain",
        fingerprint="f",
        seed=0,
        labels=["neutral", "joy", "sadness", "anger", "fear"],
        corpora={},
        cells=cells,
        versions={},
    )


def test_many_test_corpora_are_divided_into_tables_that_fit_80_columns() -> None:
    screen = narrow_screen()
    show_transfer(screen, record())
    lines = assert_fits(screen)
    headers = [line.split()[5:] for line in lines if line.startswith("trained on")]
    assert headers == [CORPORA[:2], CORPORA[2:], CORPORA[:2], CORPORA[2:], CORPORA]
    assert "\n".join(lines).count("0.664 [0.641, 0.686]") == 12
    assert "\n".join(lines).count("(123 of 280)") == 12


def test_a_merged_corpus_of_many_has_one_line_for_each() -> None:
    screen = narrow_screen()
    show_transfer(screen, record())
    lines = [line.split("  ")[0] for line in assert_fits(screen)]
    assert "+ iemocap-6way" in lines
