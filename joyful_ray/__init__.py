"""JOYFUL on Ray: train, search, evaluate and predict emotions in conversations, on a laptop or a Ray cluster.

The functions below do what the commands of `joyful` do, and return results that print themselves and convert to pandas.

Example:
    import joyful_ray

    run = joyful_ray.train("jobs/demo.yaml", overrides={"cluster.workers": 0})
    print(run)
    joyful_ray.evaluate(run.bundle, "joyful-demo/corpus").to_pandas()
"""

from joyful_ray.api.models import evaluate, import_corpus, load, open_corpus, predict, report
from joyful_ray.api.retrieval import retrieve, score_retrieval
from joyful_ray.api.studies import study
from joyful_ray.api.training import load_job, open_run, open_search, search, train, train_seeds
from joyful_ray.train.callbacks import Callback, RunInfo
from joyful_ray.tune.callbacks import SearchCallback, SearchInfo
from joyful_ray.version import __version__

__all__ = [
    "Callback",
    "RunInfo",
    "SearchCallback",
    "SearchInfo",
    "__version__",
    "evaluate",
    "import_corpus",
    "load",
    "load_job",
    "open_corpus",
    "open_run",
    "open_search",
    "predict",
    "report",
    "retrieve",
    "score_retrieval",
    "search",
    "study",
    "train",
    "train_seeds",
]
