"""Groups in studies: gaps that exist are found, test is read once for all, and rows fit whatever the batches are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from joyful_ray.assess.assessment import assess_bundle
from joyful_ray.config import merge
from joyful_ray.errors import ConfigError
from joyful_ray.report.page import page
from joyful_ray.report.pictures import study_picture
from joyful_ray.report.studies import study_tables
from joyful_ray.study import counts as counts_module
from joyful_ray.study.counts import counts_of
from joyful_ray.study.group_rows import group_rows
from joyful_ray.study.plan import plan_study
from joyful_ray.study.study import run_study
from joyful_ray.study_settings import StudyConfig
from joyful_ray.train.evaluate import evaluate_bundle
from joyful_ray.train.run_directory import RunDirectory
from joyful_ray.tune.dev_counts import EVERYTHING, DevCounts, Group
from joyful_ray.tune.goals import Goal
from tests.tiny_corpus import LABELS, SMALL, write_gendered

F1 = Goal("weighted_f1", 1)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_gendered(tmp_path_factory.mktemp("gendered") / "corpus", {"train": 20, "dev": 8, "test": 30})


def settings(corpus: str, tmp_path: Path, **changes: Any) -> dict[str, Any]:
    section = {
        "reference": "small",
        "variants": {"small": {"train.evaluation_utterances": 8}, "large": {"train.evaluation_utterances": 4096}},
        "seeds": [0],
        "bootstrap_samples": 100,
    }
    own = {"name": "groups", "corpus": corpus, "storage": str(tmp_path / "runs"), "train": {"epochs": 1}}
    return merge(merge(SMALL, own), {"study": section | changes})


def test_groups_are_those_of_evaluate_and_cost_no_other_reading_of_test(
    corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    count = counts_module.counts_by_group
    monkeypatch.setattr(
        counts_module,
        "counts_by_group",
        lambda bundle, *rest, **named: read.append("test") or count(bundle, *rest, **named),
    )
    plan = plan_study(settings(corpus, tmp_path, groups=["gender", "speaker"]))
    record = run_study(plan, parallel=1)
    assert len(read) == record.test_reads == 2
    small, large = record.rows
    assert small.groups == large.groups, "batches of another size change nothing"
    assert (large.difference, large.low, large.high) == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)
    directory = RunDirectory.of(plan.runs[0].job, plan.runs[0].name)
    found = assess_bundle(directory.bundle.uri, corpus, device="cpu").groups["gender"]
    expected = {group.group: group for group in found}
    mine = [group for group in small.groups if group.kind == "gender"]
    small_ones = {name for name, group in expected.items() if group.utterances < 20 or group.conversations < 5}
    assert {group.group for group in mine} == set(expected) - small_ones
    assert small_ones
    assert [group.utterances for group in mine] == sorted((group.utterances for group in mine), reverse=True)
    for group in mine:
        assert group.utterances == expected[group.group].utterances
        assert group.score.mean == pytest.approx(expected[group.group].score)
        assert group.gap == pytest.approx(expected[group.group].gap)
        assert group.low <= group.gap <= group.high
    tables = study_tables(record)
    assert [table.title for table in tables] == [
        "groups on corpus: weighted F1 on test, 1 seed",
        "groups on corpus: weighted F1 on test by gender",
        "groups on corpus: weighted F1 on test by speaker",
    ]
    assert {row[0] for row in tables[1].rows} == {"small", "large"}
    html = page([], [], [record])
    assert html.count("weighted F1 on test by gender") == html.count("weighted F1 on test by speaker") == 1
    pytest.importorskip("matplotlib")
    picture = study_picture(record).decode()
    for words in ("female", "speaker 0", "weighted F1 minus that of all others, by gender, on corpus"):
        assert f"<!-- {words} -->" in picture


def test_rows_are_in_the_order_of_the_ids_whatever_the_batches_are(corpus: str, tmp_path: Path) -> None:
    plan = plan_study(settings(corpus, tmp_path))
    run_study(plan, parallel=1)
    found = [counts_of(RunDirectory.of(run.job, run.name), plan.corpora[run.corpus], "test") for run in plan.runs]
    ids = sorted(each.conversation_id for each in plan.corpora["corpus"].conversations("test"))
    for counts in found:
        assert counts[EVERYTHING].conversations == tuple(ids)
    utterances = {each.conversation_id: len(each) for each in plan.corpora["corpus"].conversations("test")}
    labeled = found[0][EVERYTHING].states_CS[:, 0]
    assert (labeled <= [utterances[name] for name in ids]).all()
    np.testing.assert_array_equal(found[0][EVERYTHING].states_CS[:, 0], found[1][EVERYTHING].states_CS[:, 0])


def test_thresholds_of_several_labels_come_from_dev(tiny: Callable[..., str], tmp_path: Path) -> None:
    job = settings(tiny("multi-label"), tmp_path, variants={"small": {}})
    plan = plan_study(merge(job, {"task": "multi-label"}))
    (row,) = run_study(plan, parallel=1).rows
    bundle = RunDirectory.of(plan.runs[0].job, plan.runs[0].name).bundle.uri
    expected = evaluate_bundle(bundle, tiny("multi-label"), device="cpu")
    assert row.score.mean == pytest.approx(expected.values["binary_weighted_f1"])


def test_a_gap_is_found_and_noise_is_not() -> None:
    draw = np.random.default_rng(1)

    def counts(share: float) -> np.ndarray:
        right = draw.binomial(5, share, size=(80, 2))
        return np.array([[10, 1, a, 5 - a, 5 - b, b] for a, b in right], dtype=float)

    def seed(shares: dict[str, float]) -> dict[Group, DevCounts]:
        groups = {name: counts(share) for name, share in shares.items()}
        ids = tuple(f"{place:02d}" for place in range(80))
        everything = DevCounts("single-label", LABELS[:2], sum(groups.values()), ids)
        own = {("kind", name): replace(everything, states_CS=states) for name, states in groups.items()}
        return {EVERYTHING: everything, **own}

    study = StudyConfig(reference="a", variants={"a": {}}, groups=["kind"])
    rows = group_rows([seed({"a": 0.9, "b": 0.6, "c": 0.6}) for _ in range(3)], F1, study)
    by_name = {row.group: row for row in rows}
    assert by_name["a"].low > 0.2
    assert by_name["b"].high < 0
    null = group_rows([seed({"a": 0.6, "b": 0.6, "c": 0.6}) for _ in range(3)], F1, study)
    assert all(row.low < 0 < row.high for row in null)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (["age"], "study.groups: corpus has no speaker attribute age, only speaker, gender"),
        (["speaker", "speaker"], "name each one once"),
    ],
)
def test_groups_that_a_corpus_lacks_are_refused(corpus: str, tmp_path: Path, groups: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_study(settings(corpus, tmp_path, groups=groups))


def test_a_corpus_without_attributes_says_how_to_get_them(tiny: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no speaker attribute gender, only speaker; joyful import has the option"):
        plan_study(settings(tiny(), tmp_path, groups=["gender"]))


def test_groups_that_are_added_later_are_another_reading_of_test(corpus: str, tmp_path: Path) -> None:
    own = {"variants": {"small": {}}}
    assert run_study(plan_study(settings(corpus, tmp_path, **own)), parallel=1).test_reads == 1
    record = run_study(plan_study(settings(corpus, tmp_path, groups=["gender"], **own)), parallel=1)
    assert record.test_reads == 2
    assert record.rows[0].groups


def test_only_the_largest_groups_of_each_kind_are_compared(
    corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts_module, "MAX_GROUPS", 1)
    plan = plan_study(settings(corpus, tmp_path, groups=["gender", "speaker"], variants={"small": {}}))
    (row,) = run_study(plan, parallel=1).rows
    assert [(group.kind, group.group) for group in row.groups] == [("gender", "female"), ("speaker", "speaker 0")]
