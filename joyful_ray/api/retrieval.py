"""Functions of the Python API that find utterances with a trained model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from joyful_ray.api.data_results import RetrievalResult, RetrievalScoresResult
    from joyful_ray.schema import Modality, Split

    Place = str | PathLike[str]


def retrieve(
    bundle: Place,
    corpus: Place,
    *,
    queries: Sequence[str] = (),
    texts: Sequence[str] = (),
    source: Modality | None = None,
    target: Modality | None = None,
    splits: Iterable[Split] | None = None,
    count: int = 10,
    vectors: Place | None = None,
    device: str = "auto",
) -> RetrievalResult:
    """Find the utterances of a corpus that are nearest to utterances or texts.

    Args:
        bundle: `<run>/bundle` or the run itself; a path or s3:// URI.
        corpus: a path or s3:// URI.
        queries: utterances of the corpus: an utterance id, or `<conversation id>/<utterance id>`.
        texts: texts, if the model reads words.
        source: the modality that searches, in the basis that all modalities share; None for both this and `target`
            compares the vectors of the graph encoder.
        target: the modality that is searched.
        splits: where to search; None is all splits.
        count: matches per query.
        vectors: what `predict(…, embedding=True, shared=True)` wrote for this bundle and corpus; else it is computed.
        device: auto, cpu or cuda.

    Returns:
        The matches, nearest first. An utterance does not find itself, unless one modality searches another.

    Raises:
        UserError: no such utterance or modality, or bundle, corpus and vectors do not fit.

    Example:
        joyful_ray.retrieve("runs/meld/bundle", "corpora/meld", texts=["Oh my God!"]).to_pandas()
    """
    from joyful_ray.api.data_results import RetrievalResult
    from joyful_ray.retrieval.search import Direction
    from joyful_ray.retrieval.search import retrieve as search

    found = search(
        fspath(bundle),
        fspath(corpus),
        queries=queries,
        texts=texts,
        direction=Direction(source, target),
        splits=None if splits is None else list(splits),
        count=count,
        vectors=None if vectors is None else fspath(vectors),
        device=device,
    )
    return RetrievalResult(found)


def score_retrieval(
    bundle: Place,
    corpus: Place,
    source: Modality,
    target: Modality,
    *,
    splits: Iterable[Split] | None = None,
    vectors: Place | None = None,
    device: str = "auto",
) -> RetrievalScoresResult:
    """Measure how well one modality of an utterance finds another one, against chance.

    Args:
        bundle: `<run>/bundle` or the run itself; a path or s3:// URI.
        corpus: a path or s3:// URI.
        source: the modality that searches.
        target: the modality that is searched.
        splits: where to search; None is test.
        vectors: as for `retrieve`.
        device: auto, cpu or cuda.

    Returns:
        Recall at 1, 5 and 10 and mean reciprocal rank, with intervals over conversations.

    Raises:
        UserError: no utterance has both modalities, or bundle, corpus and vectors do not fit.

    Example:
        joyful_ray.score_retrieval("runs/meld/bundle", "corpora/meld", "text", "audio").to_pandas()
    """
    from joyful_ray.api.data_results import RetrievalScoresResult
    from joyful_ray.retrieval.search import score_modalities

    scores = score_modalities(
        fspath(bundle),
        fspath(corpus),
        source,
        target,
        splits=None if splits is None else list(splits),
        vectors=None if vectors is None else fspath(vectors),
        device=device,
    )
    return RetrievalScoresResult(scores)
