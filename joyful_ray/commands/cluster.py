"""Commands that predict the cost of a run, send work to a cluster and watch it there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from joyful_ray.commands.options import Job, Json, Settings, one_of
from joyful_ray.errors import TrainingError
from joyful_ray.wording import counted

if TYPE_CHECKING:
    from joyful_ray.submit.jobs import JobEntry

NOT_SUBMITTABLE = ("submit", "jobs")
READ_PARAMETERS = ("bundle", "corpus", "source", "uri", "corpora", "runs", "jsonl", "label_map")
"""Parameters of any command that name what it reads."""
DEPENDENCIES: tuple[Literal["auto", "locked", "none"], ...] = ("auto", "locked", "none")
ANY_ARGUMENTS = {"ignore_unknown_options": True, "allow_extra_args": True}

Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="URL",
        help="URL of the cluster's dashboard. Default: RAY_API_SERVER_ADDRESS, else http://127.0.0.1:8265.",
        show_default=False,
    ),
]
JobName = Annotated[str, typer.Argument(metavar="JOB", help="Id of a job, or name of a run for its latest job.")]


def certify(
    job: Job,
    settings: Settings = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", metavar="NAME", help="Folder in the storage. [default: JOB-certificate]", show_default=False
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Number of Ray workers.")] = 2,
    disturbances: Annotated[int, typer.Option(min=1, metavar="N", help="How often to disturb the runs, in all.")] = 9,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Decides what is done, and when.")] = 0,
    trials: Annotated[
        list[str] | None,
        typer.Option("--trial", metavar="NAME", help="Make this trial only; can be repeated.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show on this machine that a job gives the same answer whatever happens to its workers, nodes, files and storage.

    Trains it undisturbed, then with kills, a lost node, SIGTERM, other numbers of workers, a damaged checkpoint and
    storage that fails, and compares losses, weights and the conversations of every epoch.
    """
    from joyful_ray.certify.certify import certify as compare
    from joyful_ray.config import load_job
    from joyful_ray.console.certificates import show_certificate
    from joyful_ray.console.screen import Screen

    screen = Screen(as_json=as_json)
    resolved = load_job(job, settings or [])
    certificate, place = compare(
        resolved,
        name=name,
        workers=workers,
        disturbances=disturbances,
        seed=seed,
        trials=trials or [],
        watch=screen.say,
    )
    show_certificate(screen, certificate, place)
    screen.result(certificate)
    if certificate.problems:
        raise TrainingError(f"{counted(len(certificate.problems), 'check')} did not pass: {certificate.problems[0]}")


def submit(
    context: typer.Context,
    command: Annotated[
        list[str],
        typer.Argument(metavar="COMMAND…", help="Another command of joyful, with its options.", show_default=False),
    ],
    address: Address = None,
    working_dir: Annotated[
        Path, typer.Option("--working-dir", metavar="DIR", help="Folder to send, without what .gitignore names.")
    ] = Path(),
    dependencies: Annotated[
        str,
        typer.Option(
            help="Packages of requirements.lock to install: auto (those that the image lacks), locked (all), or none."
        ),
    ] = "auto",
    python: Annotated[str, typer.Option("--python", metavar="PATH", help="Python to run on the cluster.")] = "python",
    driver_cpus: Annotated[
        float, typer.Option(min=0, help="CPUs to reserve for the command itself. With 0 it runs on the head.")
    ] = 0.0,
    driver_gpus: Annotated[float, typer.Option(min=0, help="GPUs to reserve for the command itself.")] = 0.0,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return as soon as the job is submitted.")] = False,
    as_json: Json = False,
) -> None:
    """Run another command as a job on a Ray cluster, for example `joyful submit train JOB.yaml --address URL`."""
    from joyful_ray.console.screen import Screen
    from joyful_ray.submit.jobs import JobServer, keep_running_on_interrupt
    from joyful_ray.submit.packing import pack
    from joyful_ray.submit.submission import read_submission

    screen = Screen(as_json=as_json)
    parameters = _parse_command(context, command)
    packing = pack(working_dir)
    submission = read_submission(
        command,
        packing,
        job_file=parameters.get("job"),
        overrides=_overrides(parameters),
        name=parameters.get("name"),
        reads=_places(parameters, READ_PARAMETERS),
        writes=_places(parameters, ("out", "picture")) if command[0] != "demo" else [],
    )
    server = JobServer(address)
    job = server.submit(
        submission,
        packing,
        write_line=screen.say,
        dependencies=one_of(DEPENDENCIES, dependencies, "--dependencies"),
        python=python,
        cpus=driver_cpus,
        gpus=driver_gpus,
    )
    screen.say(f"job: {job}", style="bold")
    if no_wait:
        screen.say(f"to follow it: joyful jobs logs {job} --follow --address {server.url}")
        screen.result(server.find(job))
        return
    with keep_running_on_interrupt(server, job, screen.say):
        _end_like_job(screen, server.follow(job, _writer(as_json=as_json)))


def plan(
    job: Job,
    settings: Settings = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Ray workers; 0 trains in one process without Ray.", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the run. Default: the name in the job file.", show_default=False)
    ] = None,
    address: Address = None,
    price: Annotated[
        float | None,
        typer.Option(
            "--price-per-gpu-hour",
            min=0,
            metavar="PRICE",
            help="Price of one GPU for one hour, in any currency; adds the cost of the run.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Predict the memory, storage, time, GPU hours and cost of a run from a dry run of some steps."""
    from joyful_ray.config import load_job
    from joyful_ray.console.cost_estimate import show_cost_estimate
    from joyful_ray.console.screen import Screen
    from joyful_ray.submit.cost_estimate import estimate_cost

    screen = Screen(as_json=as_json)
    resolved = load_job(job, [*(settings or []), *([f"cluster.workers={workers}"] if workers is not None else [])])
    if name is not None:
        resolved = resolved.model_copy(update={"name": name})
    screen.say("dry run of some steps; this takes less than a minute")
    estimate = estimate_cost(resolved, address=address, price=price)
    show_cost_estimate(screen, estimate)
    screen.result(estimate)


def list_(address: Address = None, as_json: Json = False) -> None:
    """List the jobs of a cluster, the latest first."""
    from joyful_ray.console.jobs import show_jobs
    from joyful_ray.console.screen import Screen
    from joyful_ray.submit.jobs import JobServer

    screen = Screen(as_json=as_json)
    entries = JobServer(address).list()
    show_jobs(screen, entries)
    screen.result({"jobs": [entry.model_dump() for entry in entries]})


def status(job: JobName, address: Address = None, as_json: Json = False) -> None:
    """Show one job and, if it failed, its first error."""
    from joyful_ray.console.jobs import show_job
    from joyful_ray.console.screen import Screen
    from joyful_ray.submit.jobs import JobServer

    screen = Screen(as_json=as_json)
    entry = JobServer(address).find(job)
    show_job(screen, entry)
    screen.result(entry)


def logs(
    job: JobName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing until the job has ended.")] = False,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Print the output of a job. With --follow, the exit status is 1 if the job fails."""
    from joyful_ray.console.screen import Screen
    from joyful_ray.submit.jobs import JobServer

    screen = Screen(as_json=as_json)
    server = JobServer(address)
    entry = server.find(job)
    write = _writer(as_json=as_json)
    if follow:
        _end_like_job(screen, server.follow(entry.job, write))
        return
    write(server.logs(entry.job))
    screen.result(entry)


def stop(job: JobName, address: Address = None, as_json: Json = False) -> None:
    """Stop a job. A run continues when you submit it again under the same name."""
    from joyful_ray.console.jobs import show_job
    from joyful_ray.console.screen import Screen
    from joyful_ray.submit.jobs import JobServer

    screen = Screen(as_json=as_json)
    entry = JobServer(address).stop(job)
    show_job(screen, entry)
    screen.result(entry)


def _parse_command(context: typer.Context, command: list[str]) -> dict[str, Any]:
    """Parse a command with its own options, and raise its usage errors before anything is sent."""
    root, words, verb = context.find_root(), list(command), ""
    found: Any = root.command
    while isinstance(found, typer.core.TyperGroup):
        group, verb = found, words.pop(0) if words else ""
        found = group.get_command(context, verb)
        if found is None or verb in NOT_SUBMITTABLE:
            known = [name for name in group.commands if name not in NOT_SUBMITTABLE]
            raise typer.BadParameter(f"{verb!r} cannot be submitted; choose one of {', '.join(known)}")
    params: dict[str, Any] = found.make_context(verb, words, parent=root).params
    return params


def _overrides(parameters: dict[str, Any]) -> list[str]:
    workers = parameters.get("workers")
    return [*(parameters.get("settings") or []), *([f"cluster.workers={workers}"] if workers is not None else [])]


def _places(parameters: dict[str, Any], names: Sequence[str]) -> list[str]:
    """The paths and URIs that these parameters hold; each may hold one or several."""
    values = [parameters.get(name) for name in names]
    return [
        str(place) for value in values for place in (value if isinstance(value, list | tuple) else [value]) if place
    ]


def _writer(*, as_json: bool) -> Any:
    stream = sys.stderr if as_json else sys.stdout

    def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    return write


def _end_like_job(screen: Any, entry: JobEntry) -> None:
    """Report the end of a job.

    Raises:
        TrainingError: the job failed or was stopped.
    """
    from joyful_ray.console.cost_estimate import duration

    if entry.status == "FAILED":
        raise TrainingError(f"job {entry.job} failed: {entry.error}")
    if entry.status == "STOPPED":
        raise TrainingError(f"job {entry.job} was stopped; submit the same command again to continue the run")
    screen.say(f"job {entry.job}: {entry.status.lower()} after {duration(entry.seconds or 0)}")
    screen.result(entry)


def jobs_group() -> typer.Typer:
    """The commands of `joyful jobs`."""
    group = typer.Typer(name="jobs", help="Watch and stop jobs on a Ray cluster.", no_args_is_help=True)
    verbs: dict[str, Callable[..., None]] = {"list": list_, "status": status, "logs": logs, "stop": stop}
    for name, verb in verbs.items():
        group.command(name=name)(verb)
    return group
