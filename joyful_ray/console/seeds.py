"""Shows the scores of a job trained with several seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from joyful_ray.console.screen import Screen, metric_name, show_locations

if TYPE_CHECKING:
    from joyful_ray.records import SeedsRecord, Spread


def show_seeds(screen: Screen, record: SeedsRecord, uri: str) -> None:
    """Print one row per seed, then mean and standard deviation of every score.

    Args:
        uri: where the record was written.
    """
    split = "test" if record.test else "dev"
    names = [name for name in (record.test or record.dev) if not name.startswith("f1/")]
    header = ["seed", "epoch", f"dev {metric_name(record.selection)}", *(f"{split} {metric_name(n)}" for n in names)]
    rows = [
        [
            str(run.seed),
            f"{run.selected_epoch + 1} of {run.epochs}",
            f"{run.dev[record.selection]:.4f}",
            *(f"{(run.test or run.dev)[name]:.4f}" for name in names),
        ]
        for run in record.seeds
    ]
    screen.say()
    screen.table(header, rows, title="Seeds")
    screen.say()
    scores = list(record.dev)
    columns = [record.dev, record.test] if record.test else [record.dev]
    rows = [[_name(name), *(_spread(column.get(name)) for column in columns)] for name in scores]
    count = len(record.seeds)
    title = f"Mean ± standard deviation over {count} seed{'' if count == 1 else 's'}"
    screen.table(["score", *(["dev", "test"] if record.test else ["dev"])], rows, title=title)
    for seed, reason in record.failures.items():
        screen.say(f"seed {seed} failed: {reason}", style="red")
    screen.say()
    show_locations(screen, {"record": uri})


def _name(name: str) -> str:
    return f"F1 {name.removeprefix('f1/')}" if name.startswith("f1/") else metric_name(name)


def _spread(found: Spread | None) -> str:
    if found is None:
        return ""
    return f"{found.mean:.4f}" if found.deviation is None else f"{found.mean:.4f} ± {found.deviation:.4f}"
