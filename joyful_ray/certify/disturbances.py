"""Disturbs a run of `joyful train` on purpose: kills it or parts of it, damages its files, lets its storage fail."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from joyful_ray.certify.nodes import LocalNodes, train_workers
from joyful_ray.errors import TrainingError, UserError
from joyful_ray.train.checkpoint import MODEL, complete_checkpoints, latest_checkpoint
from joyful_ray.train.run_directory import RunDirectory

Kind = Literal["worker", "node", "command", "sigterm", "other-workers", "damage", "storage"]
KINDS: tuple[Kind, ...] = ("worker", "node", "command", "sigterm", "other-workers", "damage", "storage")
SAME_WORKERS = tuple(kind for kind in KINDS if kind != "other-workers")
POLL_S, PATIENCE_S = 0.1, 300.0
"""A run that neither saves nor ends for `PATIENCE_S` hangs."""
OUTAGE_S = 3.0
LATEST_S = 2.0
"""A disturbance comes at a random moment of so many seconds after a checkpoint."""


@dataclass
class Disturber:
    """Runs one job to its end, and disturbs it on the way.

    Attributes:
        job_file: the job, whose storage is a local folder.
        directory: of the run.
        nodes: the cluster that it runs on.
        workers: numbers of workers; one after the other where the number changes.
        draw: chooses what and when.
        log: what its commands print.
        made: what has been done so far.
    """

    job_file: Path
    directory: RunDirectory
    nodes: LocalNodes
    workers: Sequence[int]
    draw: random.Random
    log: Path
    made: list[Kind] = field(default_factory=list)
    _workers: list[int] = field(default_factory=list)

    def run(self, kinds: Sequence[Kind], *, watch: Callable[[str], None] = lambda line: None) -> None:
        """Run the job to its end with one disturbance of each of these kinds, in this order.

        Args:
            kinds: what to do.
            watch: called with a line for each disturbance.

        Raises:
            TrainingError: the run hung, or ended otherwise than it must.
        """
        left, command = list(kinds), self._start()
        try:
            while True:
                if not left or not self._wait(command, until=self._saves_next()):
                    break
                time.sleep(self.draw.uniform(0.0, LATEST_S))
                if command.poll() is not None:
                    break
                if not self._is_possible(left[0]):
                    continue
                kind = left.pop(0)
                self.made.append(kind)
                watch(f"{self.directory.location.name}: {len(self.made)} of {len(kinds)}: {kind}")
                command = self._disturb(kind, command)
            self._wait(command, until=lambda: False)
            if command.returncode:
                raise TrainingError(f"the command ended with status {command.returncode}: {self._last_line()}")
        finally:
            if command.poll() is None:
                command.kill()
                command.wait()

    @property
    def current_workers(self) -> int:
        """The number of workers that the next command has."""
        return self.workers[self.made.count("other-workers") % len(self.workers)]

    def _start(self) -> subprocess.Popen[bytes]:
        words = ["train", str(self.job_file), "--name", self.directory.location.name]
        words += ["--workers", str(self.current_workers), "--set", f"cluster.address={self.nodes.address}"]
        with self.log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "joyful_ray", *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _disturb(self, kind: Kind, command: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """Do one thing to the run, and return its command, a new one if the earlier has ended."""
        if kind == "worker":
            with suppress(ProcessLookupError):
                os.kill(self.draw.choice(self._workers), signal.SIGKILL)
            return command
        if kind == "node":
            self.nodes.replace(self.draw.randrange(self.nodes.count))
            return command
        if kind == "storage":
            return self._after_failing_storage(command)
        command.send_signal(signal.SIGTERM if kind in ("sigterm", "other-workers") else signal.SIGKILL)
        self._wait(command, until=lambda: False)
        if kind == "damage":
            self._damage()
        return self._continued(command)

    def _continued(self, command: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """The same command once more, unless it had finished before it was disturbed."""
        return self._start() if command.returncode else command

    def _is_possible(self, kind: Kind) -> bool:
        """Whether something can be done now; otherwise it is tried after the next checkpoint."""
        if kind == "worker":
            self._workers = train_workers()
            return bool(self._workers)
        # A run whose only checkpoint is damaged is refused, with advice.
        return kind != "damage" or len(list(complete_checkpoints(self.directory.checkpoints))) > 1

    def _after_failing_storage(self, command: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """Let every write of a checkpoint fail for a moment; start the command again if it ends of that."""
        folder = Path(self.directory.checkpoints.uri)
        away = folder.with_name("checkpoints.away")
        folder.rename(away)
        with suppress(IsADirectoryError):  # the run may make the folder again in between
            folder.write_text("")
        time.sleep(OUTAGE_S)
        if folder.is_dir():
            shutil.rmtree(folder)
        folder.unlink(missing_ok=True)
        away.rename(folder)
        self._wait(command, until=self._saves_next())
        return command if command.poll() is None else self._continued(command)

    def _damage(self) -> None:
        """Change one bit of the newest checkpoint."""
        newest = latest_checkpoint(self.directory.checkpoints)
        assert newest is not None, "it was possible"
        file = Path(newest.uri, MODEL)
        content = bytearray(file.read_bytes())
        content[self.draw.randrange(len(content) // 2, len(content))] ^= 1 << self.draw.randrange(8)
        file.write_bytes(bytes(content))

    def _saves_next(self) -> Callable[[], bool]:
        """What becomes true once the run has written another checkpoint."""
        saved = self._newest()
        return lambda: self._newest() != saved

    def _newest(self) -> str | None:
        """The newest checkpoint; None if there is none, or if storage fails."""
        with suppress(UserError):
            newest = latest_checkpoint(self.directory.checkpoints)
            return None if newest is None else newest.name
        return None

    def _wait(self, command: subprocess.Popen[bytes], *, until: Callable[[], bool]) -> bool:
        """Wait until something is so; False if the command has ended before.

        Raises:
            TrainingError: nothing was saved for long, and the command has not ended.
        """
        newest, since = self._newest(), time.monotonic()
        while command.poll() is None:
            if until():
                return True
            now = self._newest()
            if now != newest:
                newest, since = now, time.monotonic()
            if time.monotonic() - since > PATIENCE_S:
                after = f" after {self.made[-1]}" if self.made else ""
                raise TrainingError(f"the run hangs{after}: nothing was saved for {PATIENCE_S:g} s")
            time.sleep(POLL_S)
        return False

    def _last_line(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def repeats_allowed(kinds: Sequence[Kind], *, interval: int, steps_per_epoch: int) -> int:
    """The most steps that a run may train again after these disturbances.

    After a kill, these are the steps since the last checkpoint and the one under way; after a damaged checkpoint, those
    since the one before; after SIGTERM, none.
    """
    lost: Mapping[Kind, int] = {"sigterm": 0, "other-workers": 0, "damage": steps_per_epoch + interval + 1}
    return sum(lost.get(kind, interval + 1) for kind in kinds)
