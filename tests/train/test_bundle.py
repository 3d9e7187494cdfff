from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import joyful_ray
from joyful_ray.corpora.shards import open_corpus
from joyful_ray.data.prepare import CorpusInfo, prepare_here
from joyful_ray.errors import CheckpointError, CorpusError
from joyful_ray.records import Scores
from joyful_ray.schema import FeatureContract, Manifest
from joyful_ray.storage import open_location
from joyful_ray.train.build import build_model
from joyful_ray.train.bundle import read_bundle, write_bundle
from joyful_ray.train.evaluate import evaluate_bundle
from tests.predict.bundles import write_random_bundle
from tests.tiny_corpus import LABELS, WIDTHS, small_job

JOB = small_job(seed=5)
DEV = Scores(
    task="multi-label",
    utterances=1,
    loss=0.0,
    values={"accuracy": 1.0},
    per_label={n: {"threshold": 0.3} for n in LABELS},
)


@pytest.fixture(scope="module")
def corpus_info(tiny: Callable[..., str]) -> CorpusInfo:
    return prepare_here(open_corpus(tiny()), JOB)[0]


@pytest.fixture(scope="module")
def written(corpus_info: CorpusInfo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "run" / "bundle"
    model = build_model(JOB, corpus_info)
    write_bundle(
        open_location(str(folder)), job=JOB, corpus_info=corpus_info, weights=model.state_dict(), dev=DEV, epoch=7
    )
    return folder


@pytest.fixture
def copied(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "bundle"))


def edit(folder: Path, **changes: object) -> None:
    card = folder / "bundle.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | changes))


def test_a_bundle_is_read_as_it_was_written(written: Path, corpus_info: CorpusInfo) -> None:
    bundle = read_bundle(str(written))
    assert bundle.job == JOB
    assert bundle.encoding.labels == tuple(LABELS)
    assert dict(bundle.encoding.widths) == WIDTHS
    for name in WIDTHS:
        for attribute in ("mean_W", "deviation_W"):
            mine, theirs = (
                getattr(resolved.scaling[name], attribute) for resolved in (bundle.encoding, corpus_info.encoding)
            )
            assert np.array_equal(mine, theirs)
    expected = build_model(JOB, corpus_info).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in bundle.model.state_dict().items())
    assert bundle.card.thresholds == dict.fromkeys(LABELS, 0.3)
    assert bundle.card.trained_on["epoch"] == 7
    assert not bundle.model.training


def test_a_run_directory_leads_to_its_bundle(written: Path) -> None:
    assert read_bundle(str(written.parent)).card == read_bundle(str(written)).card


def test_reading_a_bundle_draws_no_random_numbers(written: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    read_bundle(str(written))
    assert torch.equal(torch.rand(1), expected)


def test_a_bundle_contains_no_pickle(written: Path) -> None:
    assert {file.suffix for file in written.iterdir()} == {".safetensors", ".json"}


def test_a_folder_without_a_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no bundle at"):
        read_bundle(str(tmp_path))


def test_a_bundle_of_another_version_is_refused(copied: Path) -> None:
    edit(copied, bundle_version=2)
    with pytest.raises(CheckpointError, match="bundle version 2, expected 1"):
        read_bundle(str(copied))


def test_a_bundle_of_a_later_version_with_more_fields_is_refused_by_its_version(copied: Path) -> None:
    edit(copied, bundle_version=2, novelty=1)
    with pytest.raises(CheckpointError, match="version 2"):
        read_bundle(str(copied))


def test_a_card_that_is_not_json_is_refused(copied: Path) -> None:
    (copied / "bundle.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"bundle\.json is not a bundle of this version"):
        read_bundle(str(copied))


def test_damaged_weights_are_refused(copied: Path) -> None:
    (copied / "model.safetensors").write_bytes(b"xx")
    with pytest.raises(CheckpointError, match="is damaged"):
        read_bundle(str(copied))


def test_weights_that_do_not_fit_the_card_are_refused(copied: Path) -> None:
    edit(copied, labels=LABELS[:2])
    with pytest.raises(CheckpointError, match=r"classifier\..* has shape .* expected"):
        read_bundle(str(copied))


def test_unknown_settings_in_a_card_are_refused_by_name(copied: Path) -> None:
    config = json.loads((copied / "bundle.json").read_text())["config"]
    edit(copied, config=config | {"novelty": 1})
    with pytest.raises(CheckpointError, match="unknown setting novelty"):
        read_bundle(str(copied))


def manifest(extractor: str = "made up", **widths: int) -> Manifest:
    contracts = {name: FeatureContract(extractor=extractor, version="1", width=width) for name, width in widths.items()}
    return Manifest.model_validate(
        {"name": "other", "task": "single-label", "labels": LABELS, "modalities": contracts, "splits": {}}
    )


def test_a_corpus_with_other_widths_is_refused_with_both_widths(written: Path) -> None:
    with pytest.raises(CorpusError, match="text vectors of width 6, but the corpus other has width 7"):
        read_bundle(str(written)).check_fits(manifest(text=7, audio=4))


def test_a_corpus_without_any_modality_of_the_bundle_is_refused(written: Path) -> None:
    with pytest.raises(CorpusError, match="the bundle reads text, audio, but the corpus other has vision"):
        read_bundle(str(written)).check_fits(manifest(vision=4))


def test_a_corpus_that_lacks_a_modality_fits(written: Path) -> None:
    read_bundle(str(written)).check_fits(manifest(text=6))


def test_other_vectors_of_the_same_width_are_refused_but_an_unknown_extractor_is_not(written: Path) -> None:
    read_bundle(str(written)).check_fits(manifest("unknown", text=6))
    with pytest.raises(CorpusError, match="expected extractor made up, found extractor other"):
        read_bundle(str(written)).check_fits(manifest("other", text=6))


def test_a_corpus_of_another_task_or_without_the_split_is_refused(written: Path, tiny: Callable[..., str]) -> None:
    with pytest.raises(CorpusError, match="trained for single-label, but the corpus is labeled for regression"):
        evaluate_bundle(str(written), tiny("regression"))


def test_a_missing_split_is_refused_with_the_existing_ones(written: Path, tmp_path: Path) -> None:
    from tests.tiny_corpus import write_tiny

    corpus = write_tiny(tmp_path / "c", counts={"train": 2})
    with pytest.raises(CorpusError, match="has no test split; it has train"):
        evaluate_bundle(str(written), corpus)


@pytest.mark.parametrize(
    ("settings", "depends"),
    [
        ({}, False),
        ({"context": {"padding_mask": False}}, True),
        ({"context": {"padding_mask": False}, "causal": True}, False),
        ({"context": {"padding_mask": False, "kind": "gru"}}, False),
    ],
)
def test_a_bundle_says_whether_its_scores_depend_on_the_batch(
    tiny: Callable[..., str], tmp_path: Path, settings: dict[str, Any], depends: bool
) -> None:
    predictor = joyful_ray.load(write_random_bundle(tmp_path, tiny(), model=settings), device="cpu")
    assert predictor.bundle.depends_on_batch == depends
    rows = open_corpus(tiny()).read_table("train")
    together = predictor.scores([rows])[0]
    alone = torch.cat([predictor.scores([rows.slice(place, 1)])[0] for place in range(rows.num_rows)])
    assert (float((together - alone).abs().max()) > 1e-3) == depends
