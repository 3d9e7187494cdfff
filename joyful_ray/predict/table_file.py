"""Writes tables for people and programs as .jsonl, .csv or .parquet files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from joyful_ray.errors import ConfigError
from joyful_ray.storage import open_location

FORMATS = (".jsonl", ".csv", ".parquet")


def table_format(out: str) -> str:
    """Return the suffix of a file, which says how it is written.

    Raises:
        ConfigError: it is none of `FORMATS`.
    """
    suffix = Path(out).suffix
    if suffix not in FORMATS:
        raise ConfigError(f"--out {out} must end in one of {', '.join(FORMATS)}")
    return suffix


class _JsonlWriter:
    """Writes the rows of a table as JSON lines, with the interface of pyarrow's writers."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __enter__(self) -> _JsonlWriter:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def write_table(self, table: pa.Table) -> None:
        for row in table.to_pylist():
            self._file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())


class _CsvWriter:
    """Writes a table as CSV, and lists (multi-label) as names separated by commas."""

    def __init__(self, file: Any, schema: pa.Schema) -> None:
        fields = [pa.field(f.name, pa.string()) if pa.types.is_list(f.type) else f for f in schema]
        self._writer = pyarrow.csv.CSVWriter(file, pa.schema(fields))

    def __enter__(self) -> _CsvWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.close()

    def write_table(self, table: pa.Table) -> None:
        for index, column in enumerate(table.schema):
            if pa.types.is_list(column.type):
                values = [", ".join(names) for names in table[column.name].to_pylist()]
                table = table.set_column(index, column.name, pa.array(values))
        self._writer.write_table(table)


def table_writer(file: Any, suffix: str, schema: pa.Schema) -> Any:
    """Return a writer of tables of this schema: a context manager with `write_table`."""
    if suffix == ".parquet":
        return pq.ParquetWriter(file, schema)
    return _CsvWriter(file, schema) if suffix == ".csv" else _JsonlWriter(file)


def write_table(table: pa.Table, out: str) -> str:
    """Write a whole table to a file, and return the URI of the file.

    Raises:
        ConfigError: the suffix of the file is none of `FORMATS`.
    """
    suffix, target = table_format(out), open_location(out)
    with target.open("wb") as file, table_writer(file, suffix, table.schema) as writer:
        writer.write_table(table)
    return target.uri
