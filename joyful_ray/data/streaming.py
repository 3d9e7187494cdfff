"""Streams a split from storage, with memory that does not grow with the split. No Ray.

The shards of a split, in an order drawn for the epoch, make one long row of conversations, which is cut into lanes. A
step takes its next conversations from every lane, and a rank reads lanes of its own. So what a step has is a function
of (seed, epoch), a conversation comes once an epoch, and no two ranks read the same rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from joyful_ray.config import JobConfig
from joyful_ray.corpora.shards import ShardReader
from joyful_ray.data.batch import Batch
from joyful_ray.data.encode import Encoding
from joyful_ray.data.loader import BatchLoader, Work
from joyful_ray.data.plan import MicroBatch, StepRules, cut_evenly, draw_key, draw_seed
from joyful_ray.data.scope import step_rules
from joyful_ray.data.split_rows import Piece, SplitRows, rows_of_pieces
from joyful_ray.data.store import SplitStore

LANES = 32
"""Most lanes of a split, and so most workers with work of their own; a lane has a file open."""
EVALUATED_TOGETHER = 128
"""Conversations of which evaluation batches are made, in the order of storage."""
_SHARDS, _ROWS = 4, 5


@dataclass(frozen=True)
class StreamedSplit:
    """A split that stays on storage."""

    reading: SplitRows

    def source(self, job: JobConfig, encoding: Encoding) -> BatchLoader:
        """A loader that reads the split from storage every epoch."""
        return StreamingLoader(self.reading, job, encoding)


@dataclass(frozen=True)
class Lane:
    """A part of an epoch that one rank reads.

    Attributes:
        pieces: its rows, in the order of the epoch.
        share: conversations that each step takes from it.
        unit: the fixed micro-batch that it belongs to, or its own number where there are none.
    """

    pieces: tuple[Piece, ...]
    share: int
    unit: int


def plan_lanes(rows: Sequence[int], rules: StepRules, *, seed: int, epoch: int) -> list[Lane]:
    """Cut an epoch into lanes, from which its steps are made.

    Args:
        rows: number of conversations of each shard.
        rules: how many conversations a step has, and of how many fixed micro-batches.

    Returns:
        Lanes that have every row once. Each step takes `share` conversations of each; the shares add up to a batch.
    """
    draw = np.random.default_rng([seed, epoch, _SHARDS])
    order, total = [int(shard) for shard in draw.permutation(len(rows))], sum(rows)
    whole = [Piece(shard, 0, rows[shard]) for shard in order if rows[shard]]
    first = int(draw.integers(max(total, 1)))
    around = [*cut_pieces(whole, first, total), *cut_pieces(whole, 0, first)]
    batch, parts = rules.batch_conversations, rules.micro_batches
    lanes = min(batch, max(LANES, parts or 0))
    ends = [batch * lane // lanes for lane in range(lanes + 1)]
    pieces = divide(around, [total * end // batch for end in ends[1:]])
    return [
        Lane(
            tuple(pieces[lane]),
            share=ends[lane + 1] - ends[lane],
            unit=lane if parts is None else lane * parts // lanes,
        )
        for lane in range(lanes)
    ]


def divide(pieces: Sequence[Piece], ends: Sequence[int]) -> list[list[Piece]]:
    """Divide pieces in a row into groups that end before so many rows; pieces that meet become one.

    Args:
        pieces: the rows, one after the other.
        ends: rows before the end of each group, never falling; what comes after the last is left out.
    """
    groups: list[list[Piece]] = [[] for _ in ends]
    group = rows = 0
    for piece in pieces:
        start = piece.start
        while start < piece.stop:
            while group < len(ends) and ends[group] <= rows:
                group += 1
            if group == len(ends):
                return groups
            stop = min(piece.stop, start + ends[group] - rows)
            rows += stop - start
            mine = groups[group]
            meets = bool(mine) and (mine[-1].shard, mine[-1].stop) == (piece.shard, start)
            mine.append(Piece(piece.shard, mine.pop().start if meets else start, stop))
            start = stop
    return groups


def cut_pieces(pieces: Sequence[Piece], low: int, high: int) -> list[Piece]:
    """The rows from `low` to before `high` of pieces in a row; pieces that meet become one."""
    return divide(pieces, [low, max(low, high)])[1]


class StreamingLoader:
    """A split that is read from storage every epoch, a window of steps at a time."""

    def __init__(self, reading: SplitRows, job: JobConfig, encoding: Encoding) -> None:
        self._reading, self._encoding, self._seed = reading, encoding, job.seed
        self._reader = ShardReader(reading.corpus)
        self._columns = encoding.columns(reading.corpus.schema.names)
        self._rules = step_rules(job)
        steps = max(self.steps(world_size=1), 1)
        most = max(job.data.streaming_buffer_conversations // self._rules.batch_conversations, 1)
        # Windows of about equally many steps, so that the last one leaves time to read the next epoch's first one.
        self._window = -(-steps // -(-steps // most))
        self._evaluation = job.train.evaluation_utterances
        self._threads = max(math.ceil(job.cluster.cpus_per_worker), 1)
        self._next: dict[tuple[int, int], _EpochReading] = {}

    def steps(self, *, world_size: int) -> int:
        """Number of steps per epoch."""
        return -(-sum(self._reading.rows) // self._rules.batch_conversations)

    def epoch(self, epoch: int, *, rank: int, world_size: int, start: int = 0) -> Iterator[Work]:
        """This rank's share of each step; rows of windows before that of `start` are not read.

        While the last window is trained on, the first one of the next epoch is read.
        """
        first, steps, key = start // self._window, self.steps(world_size=world_size), draw_key(self._seed, epoch)
        windows = -(-steps // self._window)
        reading = self._next.pop((rank, world_size), None)
        if reading is None or reading.what != (epoch, first):
            reading = self._begin(epoch, rank, world_size, first)
        mine = reading.lanes
        with reading.ahead as ahead:
            for window in range(first, windows):
                tables = ahead.next()
                if window + 1 == windows:
                    self._next[rank, world_size] = self._begin(epoch + 1, rank, world_size, 0)
                store = SplitStore(list(tables.values()), self._encoding)
                drawn = self._draw(store, tables, epoch, window)
                for step in range(window * self._window, min((window + 1) * self._window, steps)):
                    if step >= start:
                        place = step - window * self._window
                        yield [
                            (micro, store.batch(micro.conversations, draw_key=key))
                            for micro in self._of_step(epoch, step, place, mine, drawn, store)
                        ]

    def _begin(self, epoch: int, rank: int, world_size: int, first: int) -> _EpochReading:
        """Begin to read a rank's lanes of an epoch, from a window on."""
        lanes = plan_lanes(self._reading.rows, self._rules, seed=self._seed, epoch=epoch)
        mine = {number: lane for number, lane in enumerate(lanes) if lane.unit % world_size == rank}
        rows = {
            number: self._rows(
                cut_pieces(lane.pieces, first * self._window * lane.share, sum(map(len, lane.pieces))),
                at_a_time=self._window * lane.share,
            )
            for number, lane in mine.items()
        }
        return _EpochReading((epoch, first), mine, _Ahead(rows, threads=self._threads))

    def _draw(self, store: SplitStore, tables: dict[int, pa.Table], epoch: int, window: int) -> dict[int, list[int]]:
        """Positions in a store of the conversations of each lane, in the order in which its steps take them."""
        position = {name: place for place, name in enumerate(store.conversation_ids)}
        drawn = {}
        for number, table in tables.items():
            order = np.random.default_rng([self._seed, epoch, number, window, _ROWS]).permutation(table.num_rows)
            names = table["conversation_id"].take(pa.array(order)).to_pylist()
            drawn[number] = [position[name] for name in names]
        return drawn

    def _of_step(
        self,
        epoch: int,
        step: int,
        place: int,
        lanes: dict[int, Lane],
        drawn: dict[int, list[int]],
        store: SplitStore,
    ) -> list[MicroBatch]:
        units: dict[int, list[int]] = {}
        for number, lane in lanes.items():
            taken = drawn.get(number, [])[place * lane.share : (place + 1) * lane.share]
            units.setdefault(lane.unit, []).extend(taken)
        if self._rules.micro_batches is not None:
            chosen = {unit: tuple(found) for unit, found in units.items() if found}
        else:
            single: list[tuple[int, ...]] = [(one,) for found in units.values() for one in found]
            chosen = dict(enumerate(self._rules.passes(single, store.lengths)))
        return [
            MicroBatch(step, index, conversations, draw_seed(self._seed, epoch, step, index))
            for index, conversations in chosen.items()
        ]

    def once(self, *, rank: int, world_size: int) -> Iterator[Batch]:
        """This rank's share of one pass, in the order of storage; batches do not depend on the number of ranks."""
        whole = [Piece(shard, 0, rows) for shard, rows in enumerate(self._reading.rows) if rows]
        size, total = EVALUATED_TOGETHER, sum(self._reading.rows)
        groups = divide(whole, range(size, total + size, size))
        mine = [piece for group in groups[rank::world_size] for piece in group]
        with _Ahead({0: self._rows(cut_pieces(mine, 0, total), at_a_time=size)}, threads=self._threads) as ahead:
            while tables := ahead.next():
                store = SplitStore(list(tables.values()), self._encoding)
                batches = max(-(-store.utterances // self._evaluation), 1)
                for chosen in cut_evenly(np.arange(len(store)), store.lengths, batches):
                    yield store.batch(chosen)

    def _rows(self, pieces: Sequence[Piece], *, at_a_time: int) -> Iterator[pa.Table]:
        for table in rows_of_pieces(self._reading, pieces, self._reader, columns=self._columns, at_a_time=at_a_time):
            yield self._encoding.table(table)


class _Ahead:
    """Reads the next table of every lane on threads while the last ones are used; a context manager that ends them."""

    def __init__(self, lanes: dict[int, Iterator[pa.Table]], *, threads: int) -> None:
        self._lanes, self._pool = lanes, ThreadPoolExecutor(threads, thread_name_prefix="read")
        self._coming: dict[int, Future[pa.Table | None]] = {}
        self._ask()

    def __enter__(self) -> _Ahead:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def next(self) -> dict[int, pa.Table]:
        """The next table of each lane that has one."""
        found = {number: coming.result() for number, coming in self._coming.items()}
        self._lanes = {number: self._lanes[number] for number, table in found.items() if table is not None}
        self._ask()
        return {number: table for number, table in found.items() if table is not None}

    def _ask(self) -> None:
        self._coming = {number: self._pool.submit(next, rows, None) for number, rows in self._lanes.items()}


@dataclass(frozen=True)
class _EpochReading:
    """What a rank reads in an epoch from a window on."""

    what: tuple[int, int]
    lanes: dict[int, Lane]
    ahead: _Ahead
