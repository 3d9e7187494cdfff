"""Importance of settings: how much each one decides whether a trial is good, by optuna's PED-ANOVA."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from joyful_ray.search_settings import RangeConfig
from joyful_ray.tune.goals import Goal
from joyful_ray.tune.ranges import as_optuna, contains, distribution
from joyful_ray.tune.search_state import SearchState

LEAST = 8
"""With fewer ended trials, the shares would be noise."""


def importance(state: SearchState, space: Mapping[str, RangeConfig], goal: Goal) -> dict[str, float]:
    """Share of each setting, largest first; the shares add up to 1. Empty with fewer than 8 trials or equal scores.

    PED-ANOVA compares the best quarter of the trials with all of them. Trials that were stopped early count as not
    among the best.

    Source: Watanabe, Bansal and Hutter, PED-ANOVA (IJCAI 2023).
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kinds = {path: distribution(entry) for path, entry in space.items()}
    known = optuna.create_study(direction="maximize")
    for trial in state.searched:
        if trial.outcome not in ("finished", "stopped") or trial.selected is None:
            continue
        found = {path: as_optuna(entry, trial.settings.get(path)) for path, entry in space.items()}
        if all(contains(kinds[path], value) for path, value in found.items()):
            known.add_trial(optuna.trial.create_trial(params=found, distributions=kinds, value=trial.score(goal)))
    if len(known.trials) < LEAST or len(kinds) < 2 or len({trial.value for trial in known.trials}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shares = optuna.importance.get_param_importances(
            known, evaluator=optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25)
        )
    return dict(sorted(shares.items(), key=lambda item: -item[1]))
