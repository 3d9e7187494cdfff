"""Shows the scores of a job trained with several seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from joyful_ray.console.screen import Screen, show_locations
from joyful_ray.wording import counted, metric_name

if TYPE_CHECKING:
    from joyful_ray.records import SeedsRecord, Spread


def show_seeds(screen: Screen, record: SeedsRecord, uri: str) -> None:
    """Print one row per seed, then mean and standard deviation of every score.

    Args:
        screen: where to print.
        record: the scores.
        uri: where the record was written.
    """
    splits: list[Literal["dev", "test"]] = ["dev", "test"] if record.test else ["dev"]
    for split in splits:
        screen.say()
        _show_split(screen, record, split)
    screen.say()
    columns = [record.dev, record.test] if record.test else [record.dev]
    rows = [[_name(name), *(_spread(column.get(name)) for column in columns)] for name in record.dev]
    title = f"Mean ± standard deviation over {counted(len(record.seeds), 'seed')}"
    screen.table(["score", *splits], rows, title=title)
    for seed, reason in record.failures.items():
        screen.say(f"seed {seed} failed: {reason}", style="red")
    screen.say()
    show_locations(screen, {"record": uri})


def _show_split(screen: Screen, record: SeedsRecord, split: Literal["dev", "test"]) -> None:
    scores = record.dev if split == "dev" else record.test
    names = [name for name in scores if not name.startswith("f1/")]
    rows = []
    for run in record.seeds:
        values = run.dev if split == "dev" else run.test
        cells = [f"{values[name]:.4f}" if name in values else "" for name in names]
        rows.append([str(run.seed), f"{run.selected_epoch + 1} of {run.epochs}", *cells])
    header = ["seed", "selected epoch", *map(metric_name, names)]
    screen.table(header, rows, title=f"Seeds, {split}", left=0)


def _name(name: str) -> str:
    return f"F1 {name.removeprefix('f1/')}" if name.startswith("f1/") else metric_name(name)


def _spread(found: Spread | None) -> str:
    if found is None:
        return ""
    return f"{found.mean:.4f}" if found.deviation is None else f"{found.mean:.4f} ± {found.deviation:.4f}"
