"""Commands that send work to a cluster and watch it there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from joyful_ray.commands.options import Job, Json, Settings, one_of
from joyful_ray.errors import TrainingError

if TYPE_CHECKING:
    from joyful_ray.submit.jobs import JobCard

SENDS_NOWHERE = ("submit", "jobs")
READ = ("bundle", "corpus", "source", "uri")
"""Names of arguments and options, of any verb, that say what is read."""
DEPENDENCIES: tuple[Literal["auto", "locked", "none"], ...] = ("auto", "locked", "none")
ANYTHING = {"ignore_unknown_options": True, "allow_extra_args": True}

Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="URL",
        help="The cluster's dashboard, such as http://127.0.0.1:8265; RAY_API_SERVER_ADDRESS where left out.",
        show_default=False,
    ),
]
JobName = Annotated[str, typer.Argument(metavar="JOB", help="A job's id, or a run's name: its latest job.")]


def submit(
    context: typer.Context,
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND…", help="Any other command, with its options.", show_default=False)
    ],
    address: Address = None,
    working_dir: Annotated[
        Path, typer.Option("--working-dir", metavar="DIR", help="The folder that travels; .gitignore is honoured.")
    ] = Path(),
    dependencies: Annotated[
        str,
        typer.Option(help="auto installs what the image lacks of requirements.lock; locked all of it; none nothing."),
    ] = "auto",
    python: Annotated[str, typer.Option("--python", help="The cluster's Python.")] = "python",
    driver_cpus: Annotated[
        float, typer.Option(min=0, help="CPUs for the command itself; 0 runs it on the head.")
    ] = 0.0,
    driver_gpus: Annotated[float, typer.Option(min=0, help="GPUs for the command itself.")] = 0.0,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not follow the job to its end.")] = False,
    as_json: Json = False,
) -> None:
    """Run any of these commands as a job on a Ray cluster: `joyful submit train JOB.yaml --address URL`."""
    from joyful_ray.console.screen import Screen
    from joyful_ray.submit.jobs import JobServer, interrupted_politely
    from joyful_ray.submit.packing import pack
    from joyful_ray.submit.submission import read_submission

    screen = Screen(as_json=as_json)
    said = _understood(context, command)
    packing = pack(working_dir)
    submission = read_submission(
        command, packing, job_file=said.get("job"), overrides=_overrides(said), name=said.get("name")
    )
    server = JobServer(address)
    job = server.submit(
        submission,
        packing,
        say=screen.say,
        dependencies=one_of(DEPENDENCIES, dependencies, "--dependencies"),
        python=python,
        cpus=driver_cpus,
        gpus=driver_gpus,
    )
    screen.say(f"job: {job}", style="bold")
    if no_wait:
        screen.say(f"follow it: joyful jobs logs {job} --follow --address {server.url}")
        screen.result(server.find(job))
        return
    with interrupted_politely(server, job, screen.say):
        _ends_as(screen, server.follow(job, _writer(as_json=as_json)))


def plan(
    job: Job,
    settings: Settings = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Ray workers.", show_default=False)] = None,
    name: Annotated[str | None, typer.Option(help="The run's name.", show_default=False)] = None,
    address: Address = None,
    price: Annotated[
        float | None,
        typer.Option("--price-per-gpu-hour", min=0, help="Say what the GPU-hours cost.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what a run would take: memory, storage, time with its uncertainty, GPU-hours, money. Trains nothing."""
    from joyful_ray.config import load_job
    from joyful_ray.console.cost_estimate import show_plan
    from joyful_ray.console.screen import Screen
    from joyful_ray.submit.cost_estimate import estimate_cost

    screen = Screen(as_json=as_json)
    resolved = load_job(job, [*(settings or []), *([f"cluster.workers={workers}"] if workers is not None else [])])
    if name is not None:
        resolved = resolved.model_copy(update={"name": name})
    screen.say("rehearsing some steps; this takes under a minute")
    found = estimate_cost(resolved, address=address, price=price)
    show_plan(screen, found)
    screen.result(found)


def list_(address: Address = None, as_json: Json = False) -> None:
    """List the jobs of a cluster, the latest first."""
    from joyful_ray.console.jobs import show_jobs
    from joyful_ray.console.screen import Screen
    from joyful_ray.submit.jobs import JobServer

    screen = Screen(as_json=as_json)
    cards = JobServer(address).list()
    show_jobs(screen, cards)
    screen.result({"jobs": [card.model_dump() for card in cards]})


def status(job: JobName, address: Address = None, as_json: Json = False) -> None:
    """Show one job; of a failed one, its first error."""
    from joyful_ray.console.jobs import show_job
    from joyful_ray.console.screen import Screen
    from joyful_ray.submit.jobs import JobServer

    screen = Screen(as_json=as_json)
    card = JobServer(address).find(job)
    show_job(screen, card)
    screen.result(card)


def logs(
    job: JobName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job is over.")] = False,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Print what a job prints; with --follow, end as the job ends."""
    from joyful_ray.console.screen import Screen
    from joyful_ray.submit.jobs import JobServer

    screen = Screen(as_json=as_json)
    server = JobServer(address)
    card = server.find(job)
    write = _writer(as_json=as_json)
    if follow:
        _ends_as(screen, server.follow(card.job, write))
        return
    write(server.logs(card.job))
    screen.result(card)


def stop(job: JobName, address: Address = None, as_json: Json = False) -> None:
    """Stop a job; a run goes on when it is submitted again under the same name."""
    from joyful_ray.console.jobs import show_job
    from joyful_ray.console.screen import Screen
    from joyful_ray.submit.jobs import JobServer

    screen = Screen(as_json=as_json)
    card = JobServer(address).stop(job)
    show_job(screen, card)
    screen.result(card)


def _understood(context: typer.Context, command: list[str]) -> dict[str, Any]:
    """What the command's own verb makes of its words; raises its usage errors before anything is sent."""
    verb, words = command[0], command[1:]
    group = context.find_root().command
    found = group.get_command(context, verb) if isinstance(group, typer.core.TyperGroup) else None
    if found is None or verb in SENDS_NOWHERE:
        known = [name for name in getattr(group, "commands", {}) if name not in SENDS_NOWHERE]
        raise typer.BadParameter(f"{verb!r} is no command to submit; there are {', '.join(known)}")
    return found.make_context(verb, list(words), parent=context.find_root()).params


def _overrides(said: dict[str, Any]) -> list[str]:
    workers = said.get("workers")
    return [*(said.get("settings") or []), *([f"cluster.workers={workers}"] if workers is not None else [])]


def _writer(*, as_json: bool) -> Any:
    stream = sys.stderr if as_json else sys.stdout

    def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    return write


def _ends_as(screen: Any, card: JobCard) -> None:
    """End as the job ended.

    Raises:
        TrainingError: it failed or was stopped.
    """
    if card.status == "FAILED":
        raise TrainingError(f"job {card.job} failed: {card.error}")
    if card.status == "STOPPED":
        raise TrainingError(f"job {card.job} was stopped; the same command continues a run")
    screen.say(f"job {card.job}: {card.status.lower()} after {card.seconds or 0:.0f} s")
    screen.result(card)


def jobs_group() -> typer.Typer:
    """`joyful jobs …`."""
    group = typer.Typer(name="jobs", help="Watch and stop jobs on a Ray cluster.", no_args_is_help=True)
    verbs: dict[str, Callable[..., None]] = {"list": list_, "status": status, "logs": logs, "stop": stop}
    for name, verb in verbs.items():
        group.command(name=name)(verb)
    return group
