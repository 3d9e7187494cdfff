"""What a new corpus replaces: an earlier one, or what a killed writer left of one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain, count

from joyful_ray.errors import CorpusError
from joyful_ray.schema import MANIFEST_NAME, QUARANTINE_NAME, SPLITS
from joyful_ray.storage import Location
from joyful_ray.storage.local import UNFINISHED

FILE_NAME = re.compile(r"(?:part-\d+|shards|conversations|features)(-\d+|)\.parquet$")


def earlier_files(location: Location, *, overwrite: bool) -> list[str]:
    """Names of the files that will be replaced, below the location: a corpus, or what a killed writer left of one."""
    children = location.list()
    if not children:
        if location.exists() and not location.is_dir():
            raise CorpusError(f"{location.uri} is a file; name a folder for the corpus")
        return []
    known = (MANIFEST_NAME, QUARANTINE_NAME, *SPLITS)
    foreign = [name for name in children if name not in known and not name.endswith(UNFINISHED)]
    files = {split: location.join(split).list() for split in SPLITS if split in children}
    own = all(FILE_NAME.match(name) or name.endswith(UNFINISHED) for names in files.values() for name in names)
    is_left_over = MANIFEST_NAME not in children and not foreign and own
    if not overwrite and not is_left_over:
        raise CorpusError(
            f"{location.uri} exists and has {', '.join(children[:3])}; choose another folder, or pass --overwrite"
        )
    if foreign:
        raise CorpusError(
            f"{location.uri} has {', '.join(foreign[:3])}, which is not part of a corpus; not overwritten"
        )
    shards = [f"{split}/{name}" for split, names in files.items() for name in names]
    return shards + [name for name in children if name not in SPLITS]


def free_suffix(earlier: Sequence[str]) -> str:
    """A suffix for new shards with which none has the name of an earlier file: nothing, or -2, -3 and so on."""
    taken = {found.group(1) for name in earlier if (found := FILE_NAME.search(name))}
    return next(suffix for suffix in chain([""], (f"-{side}" for side in count(2))) if suffix not in taken)
