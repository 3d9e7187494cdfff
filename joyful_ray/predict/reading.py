"""Reads predictions that were written for a corpus or a JSONL file."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from joyful_ray.errors import StorageError
from joyful_ray.storage import open_location


def read_predictions(uri: str) -> pa.Table:
    """Read all rows of a prediction folder, or of a .jsonl, .csv or .parquet file.

    Raises:
        StorageError: nothing exists there.
    """
    place = open_location(uri)
    if not place.exists():
        raise StorageError(f"no predictions at {place.uri}")
    if place.is_dir():
        filesystem, path = place.arrow_filesystem()
        return pq.ParquetDataset(path, filesystem=filesystem).read()
    with place.open("rb") as file:
        if uri.endswith(".parquet"):
            return pq.read_table(file)
        return pyarrow.csv.read_csv(file) if uri.endswith(".csv") else pyarrow.json.read_json(file)
