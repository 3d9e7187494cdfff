"""Retrieval from Python: what the command finds, with results that print themselves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import joyful_ray
from joyful_ray.errors import ConfigError
from joyful_ray.retrieval.search import Direction, retrieve, score_modalities
from tests.predict.bundles import write_random_bundle
from tests.train.conftest import tiny

__all__ = ["tiny"]


@pytest.fixture(scope="module")
def bundle(tiny: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_random_bundle(tmp_path_factory.mktemp("bundle"), tiny())


def test_matches_are_those_of_the_command(bundle: str, tiny: Callable[..., str]) -> None:
    queries = joyful_ray.open_corpus(tiny()).corpus.read_table("test")["utterance_ids"][0].as_py()[:2]
    found = joyful_ray.retrieve(bundle, tiny(), queries=queries, count=3)
    assert found.to_arrow().equals(retrieve(bundle, tiny(), queries=queries, count=3))
    assert len(found.to_pandas()) == 3 * len(queries)
    assert repr(found) == f"{3 * len(queries)} matches for {'2 queries' if len(queries) == 2 else '1 query'}"
    assert found._repr_html_().count("<tr") == 1 + 3 * len(queries)
    across = joyful_ray.retrieve(bundle, tiny(), queries=queries[:1], source="text", target="text")
    assert across.to_arrow().equals(retrieve(bundle, tiny(), queries=queries[:1], direction=Direction("text", "text")))


def test_scores_are_those_of_the_command(bundle: str, tiny: Callable[..., str]) -> None:
    found = joyful_ray.score_retrieval(bundle, tiny(), "text", "audio", splits=["train"])
    assert found.scores == score_modalities(bundle, tiny(), "text", "audio", splits=["train"])
    frame = found.to_pandas()
    assert frame["found"].to_dict() == found.scores.values
    assert frame["chance"].to_dict() == found.scores.chance
    assert (frame["low"] <= frame["high"]).all()
    assert repr(found).startswith("text finds audio among ")
    assert "recall@10" in found._repr_html_()


def test_arguments_that_cannot_be_are_refused(bundle: str, tiny: Callable[..., str]) -> None:
    with pytest.raises(ConfigError, match="give queries or texts"):
        joyful_ray.retrieve(bundle, tiny())
    with pytest.raises(ConfigError, match=r"queries is a list, such as queries=\['a'\]"):
        joyful_ray.retrieve(bundle, tiny(), queries="a")
    with pytest.raises(ConfigError, match="count must be at least 1"):
        joyful_ray.retrieve(bundle, tiny(), queries=["a"], count=0)
