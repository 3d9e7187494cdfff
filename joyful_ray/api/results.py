"""What the functions of the Python API return: results that print themselves and convert to pandas."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from joyful_ray.records import Assessment, EpochMetrics, PredictionCard, RunRecord, SearchRecord, SeedsRecord
from joyful_ray.schema import Conversation, Split

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from joyful_ray.corpora.card import CorpusCard
    from joyful_ray.corpora.shards import Corpus


@dataclass(frozen=True, repr=False)
class RunResult:
    """A finished run.

    Attributes:
        record: everything that `record.json` holds.
        epochs: metrics of every epoch.
        uri: folder of the run.
    """

    record: RunRecord
    epochs: Sequence[EpochMetrics]
    uri: str

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.record.name

    @property
    def bundle(self) -> str:
        """URI of the trained model; `joyful_ray.load` and `joyful_ray.evaluate` take it."""
        return self.record.locations["bundle"]

    @property
    def selected_epoch(self) -> int:
        """The epoch whose weights were kept, counted from 1."""
        return self.record.selected_epoch + 1

    @property
    def dev(self) -> dict[str, float]:
        """Dev scores of the selected epoch, by name."""
        return dict(self.record.dev.values)

    @property
    def test(self) -> dict[str, float]:
        """Test scores of the selected epoch, by name; empty if the corpus has no test split."""
        return {} if self.record.test is None else dict(self.record.test.values)

    def to_pandas(self) -> pandas.DataFrame:
        """One row per epoch: `epoch` (from 1), `loss/<term>`, `dev/<score>`, `seconds`, `is_best`."""
        import pandas

        return pandas.DataFrame([epoch_row(metrics) for metrics in self.epochs])

    def __repr__(self) -> str:
        lines = [
            f"Run {self.name}: {self.record.outcome} after {self.record.epochs} epochs, "
            f"epoch {self.selected_epoch} selected"
        ]
        lines += [f"  {split:<5} {_scores_line(scores)}" for split, scores in _splits(self.dev, self.test).items()]
        return "\n".join([*lines, f"  model {self.bundle}"])

    def _repr_html_(self) -> str:
        return _heading(repr(self).splitlines()[0]) + _table_of_scores(_splits(self.dev, self.test))


@dataclass(frozen=True, repr=False)
class SeedsResult:
    """One job trained with several seeds.

    Attributes:
        record: everything that `<name>-seeds.json` holds.
    """

    record: SeedsRecord

    @property
    def dev(self) -> dict[str, float]:
        """Mean dev score over the seeds, by name."""
        return {name: spread.mean for name, spread in self.record.dev.items()}

    @property
    def test(self) -> dict[str, float]:
        """Mean test score over the seeds, by name."""
        return {name: spread.mean for name, spread in self.record.test.items()}

    def to_pandas(self) -> pandas.DataFrame:
        """One row per seed: `seed`, `epoch` (from 1), `dev/<score>`, `test/<score>`."""
        import pandas

        rows: list[dict[str, Any]] = [
            {"seed": run.seed, "epoch": run.selected_epoch + 1}
            | {f"dev/{name}": value for name, value in run.dev.items()}
            | {f"test/{name}": value for name, value in run.test.items()}
            for run in self.record.seeds
        ]
        return pandas.DataFrame(rows)

    def __repr__(self) -> str:
        lines = [f"{self.record.name}: {len(self.record.seeds)} seeds, mean ± standard deviation"]
        for split, spreads in (("dev", self.record.dev), ("test", self.record.test)):
            cells = [
                f"{name.replace('_', ' ')} {spread.mean:.4f}"
                + ("" if spread.deviation is None else f" ± {spread.deviation:.4f}")
                for name, spread in spreads.items()
                if not name.startswith("f1/")
            ]
            lines += [f"  {split:<5} {', '.join(cells)}"] if cells else []
        lines += [f"  seed {seed} failed: {reason}" for seed, reason in self.record.failures.items()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return _heading(repr(self).splitlines()[0]) + _html_table(self.to_pandas())


@dataclass(frozen=True, repr=False)
class SearchResult:
    """A finished search.

    Attributes:
        record: everything that `record.json` of the search holds.
        trials: one row per trial.
        uri: folder of the search.
    """

    record: SearchRecord
    trials: Sequence[Mapping[str, Any]]
    uri: str

    @property
    def best_settings(self) -> dict[str, Any]:
        """The chosen settings, by path."""
        return dict(self.record.settings)

    @property
    def best_job(self) -> str:
        """Path or URI of the job file with the chosen settings."""
        return self.record.locations["best config"]

    def to_pandas(self) -> pandas.DataFrame:
        """One row per trial: `trial`, `outcome`, `epochs`, `seconds`, `dev/<score>` and each setting by path."""
        import pandas

        return pandas.DataFrame(list(self.trials))

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in self.record.trials.items())
        lines = [
            f"Search {self.record.name}: {sum(self.record.trials.values())} trials ({counts})",
            f"  chosen {self.record.chosen} by {self.record.chosen_by}; {self.record.verdict}",
            f"  dev   {_scores_line(self.record.dev)}",
        ]
        if self.record.test is not None:
            lines.append(f"  test  {_scores_line(self.record.test.values)}")
        return "\n".join([*lines, f"  job   {self.best_job}"])

    def _repr_html_(self) -> str:
        return _heading(repr(self).splitlines()[0]) + _html_table(self.to_pandas())


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
            cells.append(f"{name.replace('_', ' ')} {value:.4f}{bounds}")
        return f"{self.split}: {self.assessment.utterances:,} utterances; {', '.join(cells)}"

    def _repr_html_(self) -> str:
        return _heading(repr(self)) + _html_table(self.to_pandas())


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
        return f"{count:,} prediction{'' if count == 1 else 's'}{place}"

    def _repr_html_(self) -> str:
        return _heading(repr(self)) + _html_table(self.to_arrow().slice(0, HTML_ROWS).to_pandas())


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
            f"{split} {entry.conversations:,} conversations ({entry.utterances:,} utterances)"
            for split, entry in manifest.splits.items()
        )
        widths = ", ".join(f"{name} {width}" for name, width in manifest.widths.items())
        return (
            f"Corpus {manifest.name}: {manifest.task}, {len(manifest.labels)} labels\n  {splits}\n  features {widths}"
        )

    def _repr_html_(self) -> str:
        return _heading(repr(self).splitlines()[0]) + _html_table(self.to_pandas())


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


HTML_ROWS = 20


def epoch_row(metrics: EpochMetrics) -> dict[str, Any]:
    """One epoch as a flat row."""
    return (
        {"epoch": metrics.epoch + 1}
        | {f"loss/{name}": value for name, value in metrics.losses.items()}
        | {"dev/loss": metrics.dev.loss}
        | {f"dev/{name}": value for name, value in metrics.dev.values.items()}
        | {"seconds": metrics.seconds, "is_best": metrics.is_best}
    )


def _splits(dev: Mapping[str, float], test: Mapping[str, float]) -> dict[str, Mapping[str, float]]:
    return {"dev": dev} | ({"test": test} if test else {})


def _scores_line(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in scores.items())


def _heading(text: str) -> str:
    return f"<p><b>{html.escape(text)}</b></p>"


def _table_of_scores(splits: Mapping[str, Mapping[str, float]]) -> str:
    import pandas

    return _html_table(pandas.DataFrame.from_dict(dict(splits), orient="index"))


def _html_table(frame: pandas.DataFrame) -> str:
    return frame.to_html(max_rows=HTML_ROWS, float_format=lambda value: f"{value:.4f}", border=0)
