"""The function of the Python API that compares variants of a job, and its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from joyful_ray.wording import counted, metric_name

if TYPE_CHECKING:
    import pandas

    from joyful_ray.records import StudyRecord

    Place = str | PathLike[str]


@dataclass(frozen=True, repr=False)
class StudyResult:
    """A study.

    Attributes:
        record: everything that `study.json` holds.
        uri: folder of the study.
    """

    record: StudyRecord
    uri: str

    def to_pandas(self) -> pandas.DataFrame:
        """One row per corpus and variant: score, deviation, difference to the reference, its interval, verdict."""
        import pandas

        rows = [
            {
                "corpus": row.corpus,
                "variant": row.variant,
                "removed": row.removed,
                self.record.metric: row.score.mean,
                "deviation": row.score.deviation,
                "difference": row.difference,
                "low": row.low,
                "high": row.high,
                "verdict": row.verdict,
                **{name: found.mean for name, found in row.measures.items()},
            }
            for row in self.record.rows
        ]
        return pandas.DataFrame(rows)

    def __repr__(self) -> str:
        seeds = counted(len(self.record.seeds), "seed")
        lines = [f"Study {self.record.name}: {metric_name(self.record.metric)} over {seeds}"]
        for row in self.record.rows:
            name = row.variant if row.removed is None else f"{row.variant} without {row.removed}"
            lines.append(f"  {row.corpus}, {name}: {row.score.mean:.4f}, {row.verdict}")
        lines += [f"  {name} failed: {reason}" for name, reason in self.record.failures.items()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from joyful_ray.api.display import heading, html_table

        return heading(repr(self).splitlines()[0]) + html_table(self.to_pandas())


def study(
    source: Place | Mapping[str, Any],
    overrides: Mapping[str, Any] | Sequence[str] | None = None,
    *,
    name: str | None = None,
    seeds: Sequence[int] | None = None,
    parallel: int | None = None,
) -> StudyResult:
    """Compare named variants of a job over corpora and seeds. The same call continues, and adds seeds and variants.

    Args:
        source: a YAML file with a section `study`, or a dict with the same keys.
        overrides: settings that hold for all variants: `{"train.epochs": 3}`, or `["train.epochs=3"]`.
        name: name of the study; None takes the job's.
        seeds: in place of `study.seeds`.
        parallel: maximum number of runs at a time; None is one on Ray or on a GPU, otherwise one per core.

    Returns:
        Scores, differences and verdicts. Its `record.failures` name runs that failed; test is then not read.

    Raises:
        UserError: the study or a corpus cannot be used; nothing was started.

    Example:
        joyful_ray.study("jobs/studies/contrast.yaml", seeds=[0]).to_pandas()
    """
    from joyful_ray.study.plan import plan_study
    from joyful_ray.study.study import run_study

    given = source if isinstance(source, Mapping) else fspath(source)
    changes = list(overrides.items()) if isinstance(overrides, Mapping) else list(overrides or [])
    plan = plan_study(given, changes, name=name, seeds=seeds)
    return StudyResult(run_study(plan, parallel=parallel), plan.location.uri)
