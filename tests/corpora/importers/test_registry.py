"""One door to all formats: what is unknown is answered with what is near."""

from __future__ import annotations

from pathlib import Path

import pytest

from joyful_ray.corpora.importers import IMPORTERS, import_corpus
from joyful_ray.errors import ConfigError, CorpusError, UserError


def test_every_format_is_named_and_described() -> None:
    for name, importer in IMPORTERS.items():
        assert importer.format == name
        assert importer.summary
        assert all(importer.options.values())


@pytest.mark.parametrize(
    ("format", "options", "message"),
    [
        ("meldd", {}, r"unknown format meldd; did you mean meld\?"),
        ("xyz", {}, "unknown format xyz; there are meld, jsonl"),
        ("meld", {"text_vector": "x"}, r"unknown option text_vector of format meld; did you mean text_vectors\?"),
        ("jsonl", {"nan": "zero"}, "option nan is refuse or absent, not zero"),
    ],
)
def test_a_typo_is_refused_with_the_nearest_name(
    tmp_path: Path, format: str, options: dict[str, str], message: str
) -> None:
    (tmp_path / "train.jsonl").write_text("{}")
    with pytest.raises(ConfigError, match=message):
        import_corpus(format, str(tmp_path), str(tmp_path / "out"), options=options)


@pytest.mark.parametrize("format", sorted(IMPORTERS))
def test_a_wrong_source_is_named(tmp_path: Path, format: str) -> None:
    with pytest.raises(CorpusError, match=r"there is nothing at .*nowhere"):
        import_corpus(format, str(tmp_path / "nowhere"), str(tmp_path / "out"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty|holds none"):
        import_corpus(format, str(tmp_path / "empty"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
