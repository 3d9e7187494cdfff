"""Finds the utterances of a corpus that are nearest to an utterance, to a text, or to another modality of an utterance.

Shapes: D = width of a space.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from joyful_ray.corpora.shards import Corpus, open_corpus
from joyful_ray.errors import ConfigError, CorpusError
from joyful_ray.predict.decoder import EMBEDDING, VectorChoice, shared_column
from joyful_ray.predict.predictor import Predictor, check_vectors
from joyful_ray.records import RetrievalScores
from joyful_ray.retrieval.index import CosineIndex, Vectors
from joyful_ray.retrieval.recall import score_retrieval
from joyful_ray.retrieval.utterances import Utterances, collect_utterances
from joyful_ray.schema import MODALITIES, Modality, Split

MATCH_COLUMNS = ("query", "rank", "similarity")
"""The columns in front of what a match says of its utterance."""


@dataclass(frozen=True)
class Direction:
    """From which vectors a search starts, and which ones it compares: modalities, or the graph encoder's embedding.

    Attributes:
        source, target: both None for the embedding, otherwise modalities in the basis that all share.
    """

    source: Modality | None = None
    target: Modality | None = None

    def __post_init__(self) -> None:
        for name in (self.source, self.target):
            if name is not None and name not in MODALITIES:
                raise ConfigError(f"there is no modality {name!r}; modalities are {', '.join(MODALITIES)}")
        if (self.source is None) != (self.target is None):
            raise ConfigError("give both modalities, the one that searches and the one that is searched")

    @property
    def choice(self) -> VectorChoice:
        """The vectors that are needed."""
        return VectorChoice(embedding=self.source is None, shared=self.source is not None)

    @property
    def searching(self) -> str:
        """The space of the query."""
        return self.source or EMBEDDING

    @property
    def searched(self) -> str:
        """The space of the candidates."""
        return self.target or EMBEDDING


BY_EMBEDDING = Direction()


def retrieve(
    bundle: str,
    corpus: str,
    *,
    queries: Sequence[str] = (),
    texts: Sequence[str] = (),
    direction: Direction = BY_EMBEDDING,
    splits: Sequence[Split] | None = None,
    count: int = 10,
    vectors: str | None = None,
    device: str = "auto",
) -> pa.Table:
    """Return the nearest utterances of each query, nearest first.

    Args:
        bundle, corpus: paths or s3:// URIs.
        queries: utterances of the corpus: an utterance id, or `<conversation id>/<utterance id>`.
        texts: texts, each taken as a conversation of one utterance without any vector; the bundle must read words.
        direction: compare embeddings, or one modality with another.
        splits: splits in which to search; by default, all of the corpus. A query may come from any split.
        count: matches per query.
        vectors: folder of `joyful predict --embedding --shared` of the same bundle and corpus, instead of computing.
        device: auto, cpu or cuda.

    Returns:
        One row per match: `query`, `rank` from 1, `similarity` (cosine, -1 to 1), then what the corpus says of the
        utterance. An utterance does not find itself, unless one modality searches another.

    Raises:
        CheckpointError: there is no bundle, or `vectors` are those of another bundle or corpus.
        ConfigError: there is nothing to search with, or the bundle has no such vectors, or reads no words.
        CorpusError: there is no such utterance, or it lacks the modality.
    """
    _check_queries(queries, texts, count)
    predictor, opened, chosen = _open(bundle, corpus, splits, direction, device=device)
    from_texts = [_vector_of_text(predictor, text, direction) for text in texts]
    collect = partial(collect_utterances, predictor, opened, choice=direction.choice, vectors=vectors)
    utterances = collect(chosen)
    index = CosineIndex(utterances.vectors[direction.searched])
    if not len(index):
        raise CorpusError(f"no utterance of {opened.location.uri} has {direction.searched}")
    elsewhere = [split for split in opened.splits() if split not in chosen]
    rows = [_row_of(utterances, query) for query in queries]
    others = collect(elsewhere) if elsewhere and None in rows else None
    vectors_QD = [
        _vector_of_query(query, direction, utterances, row, others, opened)
        for query, row in zip(queries, rows, strict=True)
    ]
    is_same = direction.searching == direction.searched
    similarity, found = index.nearest(np.stack([*vectors_QD, *from_texts]), count + is_same)
    tables = []
    for place, (name, own) in enumerate(zip([*queries, *texts], [*rows, *[None] * len(texts)], strict=True)):
        kept = found[place] != (-1 if own is None or not is_same else own)
        tables.append(_matches(utterances, name, found[place][kept][:count], similarity[place][kept][:count]))
    return pa.concat_tables(tables)


def _check_queries(queries: Sequence[str], texts: Sequence[str], count: int) -> None:
    for name, given in (("queries", queries), ("texts", texts)):
        if isinstance(given, str):
            raise ConfigError(f"{name} is a list, such as {name}=[{given!r}]")
    if not (queries or texts):
        raise ConfigError("give queries or texts; score_retrieval measures how well one modality finds another")
    if count < 1:
        raise ConfigError(f"count must be at least 1, not {count}")


def score_modalities(
    bundle: str,
    corpus: str,
    source: Modality,
    target: Modality,
    *,
    splits: Sequence[Split] | None = None,
    vectors: str | None = None,
    device: str = "auto",
) -> RetrievalScores:
    """Measure how well one modality of an utterance finds the other among all utterances of some splits.

    Args:
        bundle, corpus: paths or s3:// URIs.
        source, target: the modality that searches, and the one that is searched.
        splits: by default, test.
        vectors, device: as for `retrieve`.

    Raises:
        CheckpointError, ConfigError: as for `retrieve`.
        CorpusError: no utterance has both modalities.
    """
    if source == target:
        raise ConfigError(f"{source} always finds itself; name two modalities")
    direction = Direction(source, target)
    predictor, opened, chosen = _open(bundle, corpus, splits or ["test"], direction, device=device)
    utterances = collect_utterances(predictor, opened, chosen, direction.choice, vectors=vectors)
    conversations = utterances.rows["conversation_id"].combine_chunks().dictionary_encode().indices
    scores = score_retrieval(
        utterances.vectors[source],
        utterances.vectors[target],
        np.asarray(conversations, np.int64),
        source=source,
        target=target,
    )
    if not scores.utterances:
        raise CorpusError(f"no utterance of {opened.location.uri} has both {source} and {target}")
    return scores


def _open(
    bundle: str, corpus: str, splits: Sequence[Split] | None, direction: Direction, *, device: str
) -> tuple[Predictor, Corpus, list[Split]]:
    predictor, opened = Predictor.open(bundle, device=device), open_corpus(corpus)
    check_vectors(predictor.bundles, direction.choice)
    shared = predictor.bundle.shared_modalities
    for name in (direction.source, direction.target):
        if name is not None and name not in shared:
            raise ConfigError(f"the bundle does not read {name}; it reads {', '.join(shared)}")
    predictor.bundle.check_fits(opened.manifest)
    for split in splits or []:
        if split not in opened.splits():
            raise CorpusError(f"{opened.location.uri} has no {split} split; it has {', '.join(opened.splits())}")
    return predictor, opened, [split for split in opened.splits() if splits is None or split in splits]


def _vector_of_text(predictor: Predictor, text: str, direction: Direction) -> Vectors:
    """The vector of a conversation that consists of one utterance with this text."""
    if predictor.bundle.encoding.ngrams is None:
        raise ConfigError(
            "the bundle does not read words (data.word_ngrams is 0), so no text can search; name an utterance with "
            "--query"
        )
    if direction.source not in (None, "text"):
        raise ConfigError(f"a text cannot search as {direction.source}")
    if not text.strip():
        raise ConfigError("the text to search with is empty")
    choice = direction.choice
    table = predictor.predict(
        [{"speakers": ["query"], "texts": [text]}], embedding=choice.embedding, shared=choice.shared
    )
    found = table[EMBEDDING if direction.source is None else shared_column("text")][0].as_py()
    if found is None:
        raise CorpusError(f"the text {text!r} has no word")
    return np.array(found, np.float32)


def _vector_of_query(
    query: str,
    direction: Direction,
    utterances: Utterances,
    row: int | None,
    others: Utterances | None,
    corpus: Corpus,
) -> Vectors:
    """The vector of an utterance in the searched splits, or in the other ones."""
    place = utterances
    if row is None and others is not None:
        place, row = others, _row_of(others, query)
    if row is None:
        ids = utterances.rows["utterance_id"].to_pylist() + (others.rows["utterance_id"].to_pylist() if others else [])
        close = difflib.get_close_matches(query, ids, n=1)
        hint = f"did you mean {close[0]}?" if close else f"the first one is {ids[0]}"
        raise CorpusError(f"{corpus.location.uri} has no utterance {query}; {hint}")
    vector_D = place.vectors[direction.searching][row]
    if np.isnan(vector_D).any():
        raise CorpusError(f"the utterance {query} has no {direction.searching}")
    return vector_D


def _row_of(utterances: Utterances, query: str) -> int | None:
    """The row of an utterance, by its id or by conversation and id; None if there is none."""
    ids = utterances.rows["utterance_id"]
    found = np.flatnonzero(np.asarray(pc.equal(ids, query)))
    if not len(found) and "/" in query:
        full = pc.binary_join_element_wise(utterances.rows["conversation_id"], ids, "/")
        found = np.flatnonzero(np.asarray(pc.equal(full, query)))
    if len(found) > 1:
        owner = utterances.rows["conversation_id"][int(found[0])].as_py()
        raise CorpusError(f"{len(found)} utterances have the id {query}; write the conversation too: {owner}/{query}")
    return int(found[0]) if len(found) else None


def _matches(utterances: Utterances, query: str, rows: np.ndarray, similarity: np.ndarray) -> pa.Table:
    shown = utterances.rows.take(pa.array(rows))
    columns = (
        pa.array([query] * len(rows), pa.string()),
        pa.array(np.arange(1, len(rows) + 1)),
        pa.array(similarity.astype(np.float32)),
    )
    for place, (name, values) in enumerate(zip(MATCH_COLUMNS, columns, strict=True)):
        shown = shown.add_column(place, name, values)
    return shown
