"""Computes a transfer table: trains on each corpus or on several merged, and scores on all, in shared labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from joyful_ray.assess.assessment import assess_mapped
from joyful_ray.assess.groups import LINES, REPEATED, UNSEEN
from joyful_ray.assess.overlap import training_lines
from joyful_ray.assess.shared_labels import SharedLabels
from joyful_ray.config import JobConfig
from joyful_ray.corpora.label_map import LabelMap, identity_map, read_label_map
from joyful_ray.corpora.merge import common_contracts, label_maps_of, merge_corpora
from joyful_ray.corpora.shards import Corpus, open_corpus
from joyful_ray.errors import CheckpointError, ConfigError, CorpusError
from joyful_ray.predict.predictor import Predictor
from joyful_ray.records import Assessment, EpochMetrics, TransferCell, TransferRecord, versions
from joyful_ray.schema import MANIFEST_NAME
from joyful_ray.storage import Location, open_location
from joyful_ray.train.launch import train
from joyful_ray.train.run_directory import RunDirectory
from joyful_ray.transfer_settings import TransferConfig

RECORD = "transfer.json"


def transfer(
    job: JobConfig,
    *,
    stage: Callable[[str], None] = lambda text: None,
    watch: Callable[[EpochMetrics], None] | None = None,
) -> TransferRecord:
    """Train one model per row of the table, and score it on each column; finished rows are not trained again.

    A row with one corpus is trained with the labels of this corpus. A row with several is trained on a merged corpus
    with the shared labels. Every cell is scored over the shared labels, so the cells of a column are comparable.

    Args:
        job: a job with a section `transfer`.
        stage: called with a text for each step of the work.
        watch: called with the metrics of each epoch.

    Raises:
        UserError: corpora or label maps do not fit together; nothing has been trained yet.
        TrainingError: a run started and failed.
    """
    plan = job.transfer
    if plan is None:
        raise ConfigError("the job has no section transfer; see jobs/out-of-domain.yaml")
    corpora = {name: open_corpus(entry.corpus) for name, entry in plan.corpora.items()}
    maps = {name: read_label_map(entry.label_map) for name, entry in plan.corpora.items()}
    for name, corpus in corpora.items():
        maps[name].check_source(corpus.manifest.labels, whose=f"the corpus {name}")
    label_maps_of(list(corpora.values()), list(maps.values()))
    common_contracts(list(corpora.values()))
    for name in plan.test_on:
        if "test" not in corpora[name].splits():
            raise CorpusError(f"{corpora[name].location.uri} has no test split to score on")
    place = open_location(job.storage).join(f"{job.name}-transfer-{job.seed}")
    cells = []
    for row in plan.train_on:
        corpus = corpora[row[0]] if len(row) == 1 else _merged(row, plan, corpora, place)
        bundle = _trained(job, row, corpus, stage, watch)
        predictor = Predictor.open(bundle.uri, device=job.train.device)
        model_map = maps[row[0]] if len(row) == 1 else identity_map("shared", maps[row[0]].target.labels)
        known = training_lines(corpora[name] for name in row)
        for column in plan.test_on:
            stage(f"scoring {' and '.join(row)} on {column}")
            cells.append(_cell(row, column, predictor, model_map, corpora[column], maps[column], known))
    record = TransferRecord(
        name=job.name,
        fingerprint=job.fingerprint,
        seed=job.seed,
        labels=next(iter(maps.values())).target.labels,
        corpora={name: {"uri": corpus.location.uri, "hash": corpus.hash} for name, corpus in corpora.items()},
        cells=cells,
        versions=versions(),
    )
    place.join(RECORD).write_text(record.model_dump_json(indent=1))
    return record


def row_name(row: Sequence[str]) -> str:
    """Return the name of the run, and of the merged corpus, for these corpora."""
    return "-and-".join(row)


def _merged(row: list[str], plan: TransferConfig, corpora: dict[str, Corpus], place: Location) -> Corpus:
    """Merge the corpora of a row, or open them merged from earlier if none has changed."""
    out = place.join("corpora", row_name(row))
    hashes = [corpora[name].hash for name in row]
    if out.join(MANIFEST_NAME).exists():
        found = open_corpus(out.uri)
        if [source.get("hash") for source in found.manifest.notes.get("merged_from", [])] == hashes:
            return found
    merge_corpora(
        [plan.corpora[name].corpus for name in row],
        out.uri,
        label_maps=list(dict.fromkeys(plan.corpora[name].label_map for name in row)),
        overwrite=True,
    )
    return open_corpus(out.uri)


def _trained(
    job: JobConfig,
    row: list[str],
    corpus: Corpus,
    stage: Callable[[str], None],
    watch: Callable[[EpochMetrics], None] | None,
) -> Location:
    name = f"{job.name}-{row_name(row)}-{job.seed}"
    row_job = job.model_copy(update={"corpus": corpus.location.uri, "name": name, "transfer": None})
    directory = RunDirectory.of(row_job)
    record = directory.read_record()
    if record is None:
        stage(f"training on {' and '.join(row)}")
        train(row_job, watch=watch)
    elif (record.fingerprint, record.corpus["hash"]) != (row_job.fingerprint, corpus.hash):
        raise CheckpointError(
            f"run {name} in {job.storage} is finished, but with other settings or another corpus; "
            f"change the name of the job, or remove {directory.location.uri}"
        )
    return directory.bundle


def _cell(
    row: list[str],
    column: str,
    predictor: Predictor,
    model_map: LabelMap,
    corpus: Corpus,
    corpus_map: LabelMap,
    known: frozenset[str] | None,
) -> TransferCell:
    predictor.bundle.check_fits(corpus.manifest)
    shared = SharedLabels.of(predictor.decoder.labels, corpus.manifest.labels, model_map, corpus_map)
    map_names = {"from": row_name(row), "to": column}
    assessment: Assessment = assess_mapped(predictor, corpus, "test", shared, map_names=map_names, known=known)
    by_lines = {group.group: group for group in assessment.groups.get(LINES, [])}
    unseen, repeated = by_lines.get(UNSEEN), by_lines.get(REPEATED)
    assert assessment.raw is not None
    return TransferCell(
        trained_on=row,
        tested_on=column,
        bundle=predictor.bundle.location.uri,
        utterances=assessment.utterances,
        conversations=assessment.conversations,
        score=assessment.values["weighted_f1"],
        interval=assessment.intervals.get("weighted_f1"),
        raw=assessment.raw.values["weighted_f1"],
        calibration_error=assessment.calibration.error if assessment.calibration else None,
        repeating=(repeated.conversations if repeated else 0) if by_lines else None,
        score_unseen=unseen.score if unseen else None,
        interval_unseen=unseen.interval if unseen else None,
    )
