"""The cards beside a trained model and beside its predictions."""

from __future__ import annotations

from typing import Any

from joyful_ray.records.reading import Record
from joyful_ray.schema import FeatureContract, Modality, Split, Task


class BundleCard(Record):
    """`bundle.json`: everything that a trained model needs besides its weights.

    Attributes:
        config: the complete settings of the run.
        modalities: how the vectors of each modality were made.
        scaling: `mean` and `deviation` of each modality's features.
        speakers: number of speaker slots of the relations.
        causal: whether no utterance's prediction depends on a later utterance.
        reads_texts: whether the model reads the words of `texts` in addition to the vectors.
        thresholds: threshold of each label, tuned on dev (multi-label).
        temperature: scores are divided by it before they become probabilities; fitted on dev. None if it was not
            fitted.
        components: sha256 of the source file of each component of the user, by import path.
        weights_sha256: sha256 of the file of the weights; None in bundles of earlier versions.
        trained_on: the corpus, the dev scores, and the selected epoch, which is counted from 0.
    """

    bundle_version: int = 1
    config: dict[str, Any]
    fingerprint: str
    task: Task
    labels: list[str]
    modalities: dict[Modality, FeatureContract]
    scaling: dict[Modality, dict[str, list[float]]]
    speakers: int
    causal: bool = False
    reads_texts: bool = False
    thresholds: dict[str, float] = {}
    temperature: float | None = None
    trained_on: dict[str, Any] = {}
    components: dict[str, str] = {}
    weights_sha256: str | None = None


class PredictionCard(Record):
    """`_card.json`: written after the last shard's predictions; it says where they come from.

    Attributes:
        bundle: `uri`, `hash` and `fingerprint` of the model.
        corpus: `uri`, `name` and `hash` of the corpus that was read.
        splits: number of conversations and utterances of each split.
        columns: column names and their Arrow types, the same in every file.
        temperature: scores are divided by it before they become probabilities; 1 leaves them as they are.
        thresholds: probability from which each label is predicted (multi-label).
        depends_on_batch: whether a score depends on which conversations of its shard were scored with it; `evaluate`
            batches a whole split, and may then count other predictions.
        has_embedding, has_shared: whether there is the column `embedding`, and columns `shared_<modality>`.
        kept_shards: number of shards that an earlier command had finished.
    """

    bundle: dict[str, str]
    corpus: dict[str, str]
    splits: dict[Split, dict[str, int]]
    columns: dict[str, str]
    has_embedding: bool
    has_shared: bool = False
    temperature: float
    thresholds: dict[str, float] = {}
    depends_on_batch: bool = False
    shards: int
    kept_shards: int
    workers: int
    seconds: float
    utterances_per_second: float
    versions: dict[str, str]
