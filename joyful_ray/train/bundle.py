"""A bundle: a trained model with everything needed to use it, as safetensors and JSON.

Shapes: W = width of a modality.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from joyful_ray.config import JobConfig, resolve
from joyful_ray.data.encode import Encoding, Scaling
from joyful_ray.data.prepare import CorpusInfo, words_of
from joyful_ray.errors import CheckpointError, ConfigError, CorpusError
from joyful_ray.model.fusion import SpecificBranch
from joyful_ray.model.joyful import Joyful
from joyful_ray.records import BundleCard, Scores
from joyful_ray.schema import Manifest, Modality
from joyful_ray.storage import Location, open_location
from joyful_ray.train.build import build_model
from joyful_ray.train.checkpoint import MODEL, load_weights, read_tensors, write_tensors

CARD = "bundle.json"
BUNDLE_VERSION = 1
FIRST_STAGE = "pretraining."
"""Weights of the first stage of two-phase training, which no bundle has."""


@dataclass(frozen=True)
class Bundle:
    """A trained model, and how to encode its input.

    Attributes:
        card: what `bundle.json` says.
        job: the settings of the run.
        encoding: turns conversations into the model's input.
        model: in evaluation mode, on the CPU.
        location: folder that it was read from.
    """

    card: BundleCard
    job: JobConfig
    encoding: Encoding
    model: Joyful
    location: Location

    @property
    def depends_on_batch(self) -> bool:
        """Whether scores depend on which conversations are scored together: the context attends to their padding."""
        return self.job.model.attends_to_padding

    @property
    def shared_modalities(self) -> list[Modality]:
        """The modalities that the model expresses in one basis; empty if it has none."""
        specific = getattr(self.model.fusion, "specific", None)
        return list(specific.names) if isinstance(specific, SpecificBranch) else []

    @cached_property
    def hash(self) -> str:
        """sha256 of the card and the weights; two different bundles have different hashes."""
        digest = hashlib.sha256(self.card.model_dump_json().encode())
        digest.update(self.location.join(MODEL).read_bytes())
        return digest.hexdigest()

    def check_fits(self, manifest: Manifest) -> None:
        """Check that a corpus has what the model reads; a modality that it lacks is treated as missing.

        Raises:
            CorpusError: there is no modality in common, or vectors have another width or were extracted differently;
                the message has what was expected and what was found.
        """
        common = [name for name in self.encoding.widths if name in manifest.widths]
        if not common:
            known, found = ", ".join(self.encoding.widths), ", ".join(manifest.widths)
            raise CorpusError(f"the bundle reads {known}, but the corpus {manifest.name} has {found}")
        for name in common:
            found_width, width = manifest.widths[name], self.encoding.widths[name]
            if found_width != width:
                raise CorpusError(
                    f"the bundle was trained on {name} vectors of width {width}, but the corpus {manifest.name} has "
                    f"width {found_width}; extract them with {self.card.modalities[name].extractor}"
                )
            difference = self.card.modalities[name].difference(manifest.modalities[name])
            if difference:
                raise CorpusError(
                    f"the {name} vectors of the corpus {manifest.name} were extracted differently from those "
                    f"that the bundle was trained on: expected {difference[0]}, found {difference[1]}; "
                    "extract them in the same way"
                )


def write_bundle(
    location: Location,
    *,
    job: JobConfig,
    corpus_info: CorpusInfo,
    weights: dict[str, Tensor],
    dev: Scores,
    epoch: int,
    temperature: float | None = None,
) -> None:
    """Write a bundle; the card is written last.

    Args:
        location: folder of the bundle.
        job: settings of the run.
        corpus_info: what is known of the training corpus.
        weights: the selected weights.
        dev: dev scores of the selected epoch.
        epoch: the selected epoch, counted from 0.
        temperature: by which scores are divided before they become probabilities.
    """
    encoding = corpus_info.encoding
    card = BundleCard(
        bundle_version=BUNDLE_VERSION,
        config=job.model_dump(mode="json"),
        fingerprint=job.fingerprint,
        task=encoding.task,
        labels=list(encoding.labels),
        modalities=dict(corpus_info.contracts),
        scaling={
            name: {"mean": scaling.mean_W.tolist(), "deviation": scaling.deviation_W.tolist()}
            for name, scaling in encoding.scaling.items()
        },
        causal=job.model.causal,
        reads_texts=encoding.ngrams is not None,
        speakers=corpus_info.speakers,
        thresholds={name: values["threshold"] for name, values in dev.per_label.items() if "threshold" in values},
        temperature=temperature,
        components=job.component_hashes(),
        trained_on=dict(corpus_info.corpus) | {"epoch": epoch, "dev": dev.values},
    )
    kept = {name: values for name, values in weights.items() if not name.startswith(FIRST_STAGE)}
    card = card.model_copy(update={"weights_sha256": write_tensors(location.join(MODEL), kept)})
    location.join(CARD).write_text(card.model_dump_json(indent=1))


def read_bundle(uri: str) -> Bundle:
    """Open a bundle.

    Args:
        uri: folder of the bundle, or of the run that has it.

    Raises:
        CheckpointError: there is no bundle, it is damaged, or another version wrote it.
    """
    location = open_location(uri)
    if not location.join(CARD).exists():
        if location.join("bundle", CARD).exists():
            return read_bundle(location.join("bundle").uri)
        raise CheckpointError(f"there is no bundle at {location.uri} ({CARD} is missing); name a run's bundle/ folder")
    card = _read_card(location.join(CARD))
    try:
        job = resolve(card.config)
        changed = [path for path, found in job.component_hashes().items() if card.components.get(path) != found]
    except ConfigError as error:
        raise CheckpointError(f"{location.join(CARD).uri} cannot be opened: {error}") from None
    if changed:
        warnings.warn(f"the source of {', '.join(changed)} has changed since this model was trained", stacklevel=2)
    scaling = {
        name: Scaling(np.array(values["mean"], np.float32), np.array(values["deviation"], np.float32))
        for name, values in card.scaling.items()
    }
    widths = {name: contract.width for name, contract in card.modalities.items()}
    ngrams = words_of(job) if card.reads_texts else None
    encoding = Encoding(card.task, tuple(card.labels), widths, scaling, ngrams, tuple(job.data.speaker_order))
    state = torch.get_rng_state()
    model = build_model(
        job, CorpusInfo(encoding, card.modalities, card.trained_on, speakers=card.speakers), for_training=False
    )
    torch.set_rng_state(state)
    load_weights(model, read_tensors(location.join(MODEL), sha256=card.weights_sha256), source=location.uri)
    return Bundle(card, job, encoding, model.eval(), location)


def _read_card(place: Location) -> BundleCard:
    try:
        content = json.loads(place.read_text())
        version = content.get("bundle_version", BUNDLE_VERSION) if isinstance(content, dict) else BUNDLE_VERSION
        if version != BUNDLE_VERSION:
            raise CheckpointError(f"{place.uri} has bundle version {version}, expected {BUNDLE_VERSION}")
        return BundleCard.model_validate(content)
    except ValueError as error:  # not JSON, or not a card
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{place.uri} is not a bundle of this version: {reason}") from None
