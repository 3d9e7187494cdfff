"""Results of evaluating, predicting, opening corpora and reporting: they print themselves and convert to pandas."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from joyful_ray.api.display import HTML_ROWS, heading, html_table
from joyful_ray.records import Assessment, PredictionCard, RetrievalScores
from joyful_ray.schema import Conversation, Split
from joyful_ray.wording import counted, metric_name

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from joyful_ray.corpora.card import CorpusCard
    from joyful_ray.corpora.shards import Corpus


@dataclass(frozen=True, repr=False)
class EvaluationResult:
    """Scores of a trained model on one split of a corpus.

    Attributes:
        assessment: scores, intervals, calibration, groups and feature shift.
        split: the split that was scored.
    """

    assessment: Assessment
    split: Split

    @property
    def scores(self) -> dict[str, float]:
        """Scores by name."""
        return dict(self.assessment.values)

    def to_pandas(self) -> pandas.DataFrame:
        """One row per label (precision, recall, f1, support); for regression, one row of scores."""
        import pandas

        if not self.assessment.per_label:
            return pandas.DataFrame([self.scores])
        return pandas.DataFrame.from_dict(self.assessment.per_label, orient="index")

    def confusion(self) -> pandas.DataFrame:
        """Confusion matrix; rows are true labels, columns are predictions.

        Raises:
            ValueError: the task is not single-label.
        """
        import pandas

        if self.assessment.confusion is None:
            raise ValueError(f"a {self.assessment.task} task has no confusion matrix")
        labels = self.assessment.labels
        return pandas.DataFrame(self.assessment.confusion, index=labels, columns=labels)

    def __repr__(self) -> str:
        cells = []
        for name, value in self.assessment.values.items():
            interval = self.assessment.intervals.get(name)
            bounds = "" if interval is None else f" [{interval.low:.4f}, {interval.high:.4f}]"
            cells.append(f"{metric_name(name)} {value:.4f}{bounds}")
        return f"{self.split}: {counted(self.assessment.utterances, 'utterance')}; {', '.join(cells)}"

    def _repr_html_(self) -> str:
        return heading(repr(self)) + html_table(self.to_pandas())


@dataclass(frozen=True, repr=False)
class PredictionResult:
    """Predictions, one row per utterance.

    Attributes:
        table: the rows if they are in memory.
        uri: where they were written, else None.
        card: what `predict` noted of a whole corpus, else None.
    """

    table: pyarrow.Table | None
    uri: str | None = None
    card: PredictionCard | None = None

    def to_arrow(self) -> pyarrow.Table:
        """All rows as an Arrow table, read from where they were written if they are not in memory."""
        if self.table is not None:
            return self.table
        from joyful_ray.predict.reading import read_predictions

        assert self.uri is not None
        return read_predictions(self.uri)

    def to_pandas(self) -> pandas.DataFrame:
        """All rows: ids, `probability_<label>`, `prediction`, and what the input said of the utterance."""
        return self.to_arrow().to_pandas()

    def __repr__(self) -> str:
        if self.card is not None:
            count = sum(counts["utterances"] for counts in self.card.splits.values())
        else:
            count = self.to_arrow().num_rows
        place = "" if self.uri is None else f", in {self.uri}"
        return f"{counted(count, 'prediction')}{place}"

    def _repr_html_(self) -> str:
        return heading(repr(self)) + html_table(self.to_arrow().slice(0, HTML_ROWS).to_pandas())


@dataclass(frozen=True, repr=False)
class RetrievalResult:
    """The nearest utterances of each query.

    Attributes:
        table: one row per match: `query`, `rank`, `similarity`, and what the corpus says of the utterance.
    """

    table: pyarrow.Table

    def to_arrow(self) -> pyarrow.Table:
        """All matches as an Arrow table."""
        return self.table

    def to_pandas(self) -> pandas.DataFrame:
        """One row per match."""
        return self.table.to_pandas()

    def __repr__(self) -> str:
        queries = len(set(self.table["query"].to_pylist()))
        return f"{counted(self.table.num_rows, 'match')} for {counted(queries, 'query', 'queries')}"

    def _repr_html_(self) -> str:
        return heading(repr(self)) + html_table(self.table.slice(0, HTML_ROWS).to_pandas())


@dataclass(frozen=True, repr=False)
class RetrievalScoresResult:
    """How well one modality of an utterance finds another.

    Attributes:
        scores: the measures, with intervals, and those of a random order.
    """

    scores: RetrievalScores

    def to_pandas(self) -> pandas.DataFrame:
        """One row per measure: found, low, high, chance."""
        import pandas

        bounds = self.scores.intervals
        rows = {
            name: {
                "found": value,
                "low": bounds[name].low if name in bounds else None,
                "high": bounds[name].high if name in bounds else None,
                "chance": self.scores.chance[name],
            }
            for name, value in self.scores.values.items()
        }
        return pandas.DataFrame.from_dict(rows, orient="index")

    def __repr__(self) -> str:
        values = ", ".join(
            f"{name} {value:.4f} (chance {self.scores.chance[name]:.4f})" for name, value in self.scores.values.items()
        )
        count = counted(self.scores.utterances, "utterance")
        return f"{self.scores.source} finds {self.scores.target} among {count}: {values}"

    def _repr_html_(self) -> str:
        return heading(repr(self)) + html_table(self.to_pandas())


@dataclass(frozen=True, repr=False)
class CorpusResult:
    """An open corpus.

    Attributes:
        corpus: the corpus itself, with its manifest.
    """

    corpus: Corpus
    _cards: list[CorpusCard] = field(default_factory=list, compare=False)

    @property
    def uri(self) -> str:
        """Where the corpus is."""
        return self.corpus.location.uri

    @property
    def card(self) -> CorpusCard:
        """What `joyful inspect` shows, with warnings. Reads the whole corpus the first time."""
        if not self._cards:
            from joyful_ray.corpora.card import inspect_corpus

            self._cards.append(inspect_corpus(self.corpus))
        return self._cards[0]

    def conversations(self, split: Split) -> Iterator[Conversation]:
        """The conversations of a split, in order."""
        return self.corpus.conversations(split)

    def to_pandas(self) -> pandas.DataFrame:
        """One row per split: conversations, utterances, and the count of each label."""
        import pandas

        rows = {
            split: {"conversations": entry.conversations, "utterances": entry.utterances, **entry.labels}
            for split, entry in self.corpus.manifest.splits.items()
        }
        return pandas.DataFrame.from_dict(rows, orient="index")

    def __repr__(self) -> str:
        manifest = self.corpus.manifest
        splits = ", ".join(
            f"{split} {counted(entry.conversations, 'conversation')} ({counted(entry.utterances, 'utterance')})"
            for split, entry in manifest.splits.items()
        )
        widths = ", ".join(f"{name} {width}" for name, width in manifest.widths.items())
        labels = f", {counted(len(manifest.labels), 'label')}" if manifest.labels else ""
        return f"Corpus {manifest.name}: {manifest.task}{labels}\n  {splits}\n  features {widths}"

    def _repr_html_(self) -> str:
        return heading(repr(self).splitlines()[0]) + html_table(self.to_pandas())


@dataclass(frozen=True, repr=False)
class ReportResult:
    """A report on runs and searches.

    Attributes:
        uri: the HTML page.
        page: its text.
    """

    uri: str
    page: str = field(compare=False)

    def __repr__(self) -> str:
        return f"report in {self.uri}"

    def _repr_html_(self) -> str:
        return f'<iframe srcdoc="{html.escape(self.page)}" width="100%" height="800"></iframe>'
