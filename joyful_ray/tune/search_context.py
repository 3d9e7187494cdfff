"""What all trials of a search share: the base job, the prepared corpus, and where trials are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from joyful_ray.config import JobConfig
from joyful_ray.data.ingest import IngestedSplit
from joyful_ray.data.prepare import CorpusInfo, unscaled_encoding
from joyful_ray.schema import Manifest, Split
from joyful_ray.search_settings import SearchConfig
from joyful_ray.storage import Location
from joyful_ray.train.run_directory import RunDirectory
from joyful_ray.tune.goals import Goal
from joyful_ray.tune.space import job_with

TRIALS = "trials"


@dataclass(frozen=True)
class Prepared:
    """The prepared corpus that trials with the same encoding share: one copy per node, without the test split."""

    corpus_info: CorpusInfo
    ingested: Mapping[Split, IngestedSplit]


@dataclass(frozen=True)
class SearchContext:
    """What all trials of a search share.

    Attributes:
        manifest: manifest of the corpus.
        prepared: by `data_key`.
        points: whether each report has a pointer to its checkpoint (hyperband and pbt, which pause trials).
    """

    base: JobConfig
    search: SearchConfig
    home: Location
    goal: Goal
    corpus_hash: str
    manifest: Manifest
    prepared: Mapping[str, Prepared]
    points: bool

    def directory(self, trial: str) -> RunDirectory:
        """The run directory of a trial."""
        return RunDirectory(self.home.join(TRIALS, trial))

    def prepared_for(self, job: JobConfig) -> Prepared:
        """The prepared corpus of a trial's job."""
        return self.prepared[data_key(job, self.manifest)]

    def job(self, settings: Mapping[str, Any], seed: int) -> JobConfig:
        """The job of a trial: its settings, and the resources that the search gives each trial."""
        search = self.search
        return job_with(
            self.base,
            {
                **settings,
                "seed": seed,
                "cluster.workers": search.workers_per_trial if search.workers_per_trial > 1 else 0,
                "cluster.min_workers": None,
                "cluster.cpus_per_worker": search.cpus_per_trial / search.workers_per_trial,
                "cluster.gpus_per_worker": search.gpus_per_trial / search.workers_per_trial,
                "train.device": "auto" if search.gpus_per_trial else "cpu",
                "train.refit": False,  # a trial is compared on dev
                "train.keep_checkpoints": search.perturb_epochs + 2 if search.scheduler == "pbt" else 1,
            },
        )


def data_key(job: JobConfig, manifest: Manifest) -> str:
    """Identifies the prepared corpus of a trial: trials share one if it is encoded and scaled in the same way."""
    return repr((unscaled_encoding(manifest, job), job.data.normalise))
