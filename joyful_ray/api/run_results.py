"""Results of training and searching: they print themselves and convert to pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from joyful_ray.api.display import by_split, epoch_row, heading, html_table, scores_line, table_of_scores
from joyful_ray.records import EpochMetrics, RunRecord, SearchRecord, SeedsRecord
from joyful_ray.wording import counted, metric_name

if TYPE_CHECKING:
    import pandas


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
            f"Run {self.name}: {self.record.outcome.replace('-', ' ')} after {counted(self.record.epochs, 'epoch')}, "
            f"epoch {self.selected_epoch} selected"
        ]
        lines += [f"  {split:<5} {scores_line(scores)}" for split, scores in by_split(self.dev, self.test).items()]
        return "\n".join([*lines, f"  model {self.bundle}"])

    def _repr_html_(self) -> str:
        return heading(repr(self).splitlines()[0]) + table_of_scores(by_split(self.dev, self.test))


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
        lines = [f"{self.record.name}: {counted(len(self.record.seeds), 'seed')}, mean ± standard deviation"]
        for split, spreads in (("dev", self.record.dev), ("test", self.record.test)):
            cells = [
                f"{metric_name(name)} {spread.mean:.4f}"
                + ("" if spread.deviation is None else f" ± {spread.deviation:.4f}")
                for name, spread in spreads.items()
                if not name.startswith("f1/")
            ]
            lines += [f"  {split:<5} {', '.join(cells)}"] if cells else []
        lines += [f"  seed {seed} failed: {reason}" for seed, reason in self.record.failures.items()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return heading(repr(self).splitlines()[0]) + html_table(self.to_pandas())


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
            f"Search {self.record.name}: {counted(sum(self.record.trials.values()), 'trial')} ({counts})",
            f"  chosen {self.record.chosen} by {self.record.chosen_by}; {self.record.verdict}",
            f"  dev   {scores_line(self.record.dev)}",
        ]
        if self.record.test is not None:
            lines.append(f"  test  {scores_line(self.record.test.values)}")
        return "\n".join([*lines, f"  job   {self.best_job}"])

    def _repr_html_(self) -> str:
        return heading(repr(self).splitlines()[0]) + html_table(self.to_pandas())
