"""Trains several runs at a time, each in its own process, which ends when the process that started it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait

from joyful_ray.config import JobConfig
from joyful_ray.errors import TrainingError, UserError
from joyful_ray.records import EpochMetrics
from joyful_ray.termination import stop_on_sigterm
from joyful_ray.train.launch import train
from joyful_ray.train.saving import SAVING_S

RunError = UserError | TrainingError


def train_in_processes(
    jobs: Iterable[tuple[str, JobConfig | TrainingError]],
    *,
    at_a_time: int,
    ray_address: str | None,
    watch: Callable[[str, EpochMetrics], None],
    reads_test: bool = True,
) -> Iterator[tuple[str, RunError | None]]:
    """Train jobs, and give the name of each run when it ends, with its error or None.

    Args:
        jobs: name of the run and its job, taken one by one when there is room; an error in place of a job is passed on.
        at_a_time: maximum number of processes.
        ray_address: the Ray cluster that the runs join; None without Ray.
        watch: called with the name of the run and the metrics of each epoch.
        reads_test: whether each run scores its selected epoch on test.
    """
    waiting = iter(jobs)
    running: dict[str, _RunProcess] = {}
    is_empty = False
    try:
        while running or not is_empty:
            while len(running) < at_a_time and not is_empty:
                found = next(waiting, None)
                if found is None:
                    is_empty = True
                elif isinstance(found[1], TrainingError):
                    yield found[0], found[1]
                else:
                    running[found[0]] = _RunProcess(found[1], found[0], ray_address, reads_test)
            ready = wait([process.connection for process in running.values()])
            for name, process in list(running.items()):
                if process.connection in ready:
                    message = process.receive()
                    if isinstance(message, EpochMetrics):
                        watch(name, message)
                    else:
                        del running[name]
                        yield name, message
    finally:
        for process in running.values():
            process.stop()


class _RunProcess:
    def __init__(self, job: JobConfig, name: str, ray_address: str | None, reads_test: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, sender = context.Pipe(duplex=False)
        self._name = name
        self._process = context.Process(target=_train, args=(job, name, ray_address, reads_test, sender), daemon=True)
        self._process.start()
        # Only the new process holds the other end now, so its death is the end of the stream.
        sender.close()

    def receive(self) -> EpochMetrics | RunError | None:
        """The next message: the metrics of an epoch, or the end of the run with its error or None."""
        try:
            message = self.connection.recv()
        except EOFError:
            self._process.join()
            return TrainingError(
                f"the process of run {self._name} ended without a result (exit code {self._process.exitcode}); "
                "the same command continues"
            )
        if not isinstance(message, EpochMetrics):
            self._process.join()
        return message

    def stop(self) -> None:
        """End the process, which saves its run after the current step; the same command continues it."""
        self._process.terminate()
        self._process.join(SAVING_S)
        self._process.kill()
        self._process.join()


def _train(job: JobConfig, name: str, ray_address: str | None, reads_test: bool, sender: Connection) -> None:
    # Ctrl-C reaches every process of a terminal; the process that started this one decides what happens.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop_on_sigterm()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if ray_address is not None:
        os.environ["RAY_ADDRESS"] = ray_address
    try:
        train(job, name=name, watch=sender.send, reads_test=reads_test)
    except (UserError, TrainingError) as error:
        sender.send(error)
    except KeyboardInterrupt:
        return  # the process that started this one ends it
    else:
        sender.send(None)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
