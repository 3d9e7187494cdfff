"""Merges corpora into one, with labels that all of them share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from joyful_ray.corpora.label_map import LabelMap, identity_map, read_label_map
from joyful_ray.corpora.shards import Corpus, open_corpus
from joyful_ray.corpora.writer import CorpusWriter
from joyful_ray.errors import ConfigError, CorpusError
from joyful_ray.schema import (
    MODALITIES,
    SPLITS,
    Conversation,
    FeatureContract,
    Label,
    Manifest,
    Modality,
    Split,
)
from joyful_ray.storage import open_location


def merge_corpora(
    uris: Sequence[str],
    out: str,
    *,
    label_maps: Sequence[str] = (),
    name: str | None = None,
    overwrite: bool = False,
    watch: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Write one corpus with the conversations of several, split by split.

    The id of a conversation begins with the name of its corpus. An utterance whose label a map drops becomes unlabeled:
    it stays in the conversation, but has no classification loss. A modality that a corpus lacks is not present in its
    conversations; a speaker attribute is unknown.

    Args:
        uris: two or more corpora.
        out: where the merged corpus goes; a path or s3:// URI.
        label_maps: files; each is used for the corpora that have the labels in its `from`, and all have the same `to`.
            A corpus without a map must have the labels of `to`.
        name: name of the merged corpus; None joins the names.
        overwrite: replace a corpus at `out`.
        watch: called with the number of conversations merged so far, and with that of all.

    Raises:
        CorpusError: tasks or features do not fit; the message has both.
        ConfigError: a map lacks a label, or fits no corpus.
    """
    corpora = [open_corpus(uri) for uri in uris]
    first = corpora[0].manifest
    _check_together(corpora, out)
    maps = label_maps_of(corpora, [read_label_map(uri) for uri in label_maps])
    contracts = common_contracts(corpora)
    names = _distinct([corpus.manifest.name for corpus in corpora])
    has_texts = all(corpus.manifest.has_texts for corpus in corpora)
    attributes = sorted({name for corpus in corpora for name in corpus.manifest.speaker_attributes})
    with CorpusWriter(
        out,
        name=name or "-and-".join(names),
        task=first.task,
        labels=maps[0].target.labels if first.task != "regression" else [],
        modalities=contracts,
        has_texts=has_texts,
        speaker_attributes=attributes,
        notes={"merged_from": _sources(names, corpora, maps)},
        overwrite=overwrite,
    ) as writer:
        total = sum(entry.conversations for corpus in corpora for entry in corpus.manifest.splits.values())
        merged = (
            (split, conversation)
            for split in SPLITS
            for own, corpus, used in zip(names, corpora, maps, strict=True)
            for conversation in _converted(corpus, split, own, used, contracts, has_texts, attributes)
        )
        for done, (split, conversation) in enumerate(merged, start=1):
            writer.write(split, conversation)
            if watch is not None:
                watch(done, total)
    assert writer.manifest is not None
    return writer.manifest


def _sources(names: Sequence[str], corpora: Sequence[Corpus], maps: Sequence[LabelMap]) -> list[dict[str, str]]:
    return [
        {"name": own, "uri": corpus.location.uri, "hash": corpus.hash, "labels_from": used.source.name}
        for own, corpus, used in zip(names, corpora, maps, strict=True)
    ]


def _check_together(corpora: Sequence[Corpus], out: str) -> None:
    _check_distinct(corpora, out)
    first = corpora[0].manifest
    for corpus in corpora[1:]:
        if corpus.manifest.task != first.task:
            raise CorpusError(
                f"the task of {corpus.location.uri} is {corpus.manifest.task}, that of the first corpus {first.task}"
            )


def _check_distinct(corpora: Sequence[Corpus], out: str) -> None:
    seen: dict[str, str] = {}
    for corpus in corpora:
        uri = corpus.location.uri
        if uri == open_location(out).uri:
            raise CorpusError(f"{uri} is one of the corpora to merge; choose another --out")
        if corpus.hash in seen:
            raise CorpusError(f"{uri} has the same conversations as {seen[corpus.hash]}; name each corpus once")
        seen[corpus.hash] = uri


def label_maps_of(corpora: Sequence[Corpus], given: Sequence[LabelMap]) -> list[LabelMap]:
    """The map of each corpus, found by its labels; the identity if it has the shared labels already.

    Raises:
        ConfigError: a map lacks a label of a corpus, maps have different labels in `to`, or one fits no corpus.
    """
    target = given[0].target if given else None
    for other in given[1:]:
        if target is not None and other.target.labels != target.labels:
            raise ConfigError(
                f"the label maps from {given[0].source.name} and {other.source.name} have different labels in `to`: "
                f"{', '.join(target.labels)} and {', '.join(other.target.labels)}"
            )
    shared = list(target.labels) if target is not None else corpora[0].manifest.labels
    known = [set(corpus.manifest.labels) for corpus in corpora]
    unused = [one for one in given if set(one.source.labels) not in known]
    found = []
    for corpus in corpora:
        labels = corpus.manifest.labels
        fitting = [one for one in given if set(one.source.labels) == set(labels)]
        if any(one.map != fitting[0].map for one in fitting):
            raise ConfigError(f"two different label maps fit the labels of {corpus.location.uri}; give one of them")
        if fitting:
            found.append(fitting[0])
        elif set(labels) == set(shared):
            found.append(identity_map(corpus.manifest.name, shared) if shared else _no_labels(corpus))
        else:
            named = next((one for one in given if set(one.source.labels) & set(labels)), None)
            if named is not None:
                named.check_source(labels, whose=corpus.location.uri)
            strange = next(label for label in [*labels, *shared] if (label in labels) != (label in shared))
            raise ConfigError(
                f"the corpora differ in the label {strange!r}: {corpus.location.uri} needs a --label-map to "
                f"{', '.join(shared)}"
            )
    if unused:
        raise ConfigError(f"the label map from {unused[0].source.name} fits none of the corpora")
    return found


def _no_labels(corpus: Corpus) -> LabelMap:
    """A map for regression, which has no labels to map."""
    return identity_map(corpus.manifest.name, ["number"])


def common_contracts(corpora: Sequence[Corpus]) -> dict[Modality, FeatureContract]:
    """The contract of every modality that a corpus has.

    Raises:
        CorpusError: two corpora have different contracts for a modality.
    """
    contracts: dict[Modality, FeatureContract] = {}
    for name in MODALITIES:
        having = [corpus for corpus in corpora if name in corpus.manifest.modalities]
        for corpus in having:
            expected = contracts.setdefault(name, corpus.manifest.modalities[name])
            difference = expected.difference(corpus.manifest.modalities[name])
            if difference:
                raise CorpusError(
                    f"the {name} vectors of {corpus.location.uri} do not fit those of {having[0].location.uri}: "
                    f"expected {difference[0]}, found {difference[1]}; extract both in the same way"
                )
    return contracts


def _distinct(names: list[str]) -> list[str]:
    counts, seen, found = Counter(names), Counter[str](), []
    for name in names:
        seen[name] += 1
        found.append(name if counts[name] == 1 else f"{name}-{seen[name]}")
    return found


def _converted(
    corpus: Corpus,
    split: Split,
    name: str,
    label_map: LabelMap,
    contracts: Mapping[Modality, FeatureContract],
    has_texts: bool,
    attributes: Sequence[str],
) -> Iterator[Conversation]:
    for conversation in corpus.conversations(split):
        features, present = dict(conversation.features), dict(conversation.present)
        for modality, contract in contracts.items():
            if modality not in features:
                features[modality] = np.full((len(conversation), contract.width), np.nan, np.float32)
                present[modality] = np.zeros(len(conversation), np.bool_)
        yield replace(
            conversation,
            conversation_id=f"{name}/{conversation.conversation_id}",
            labels=[mapped_label(label, label_map) for label in conversation.labels],
            features=features,
            present=present,
            texts=conversation.texts if has_texts else None,
            speaker_attributes={
                attribute: conversation.speaker_attributes.get(attribute, [None] * len(conversation))
                for attribute in attributes
            },
        )


def mapped_label(label: Label, label_map: LabelMap) -> Label:
    """The counterpart of a label; None if it is dropped."""
    if isinstance(label, str):
        return label_map.map.get(label)
    if isinstance(label, list):
        return list(dict.fromkeys(label_map.map[name] for name in label if name in label_map.map))
    return label
