"""Label maps: what they refuse, and that those that ship name the labels of the importers."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import yaml

from joyful_ray.corpora.importers import emorynlp, iemocap, meld, mosei
from joyful_ray.corpora.label_map import LabelMap, read_label_map
from joyful_ray.errors import ConfigError

FOLDER = Path(__file__).parents[2] / "jobs" / "label-maps"
LABELS = {
    "meld": meld.LABELS,
    "iemocap-4way": iemocap.LABELS[:4],
    "iemocap-6way": iemocap.LABELS,
    "mosei": mosei.EMOTIONS,
    "emorynlp": emorynlp.LABELS,
    # Li et al., IJCNLP 2017, table 4; it has no importer; its users import it as jsonl.
    "dailydialog": ["no emotion", "anger", "disgust", "fear", "happiness", "sadness", "surprise"],
    "shared": ["neutral", "joy", "sadness", "anger", "fear"],
}
PAIRS = [*permutations([name for name in LABELS if name != "shared"], 2)]
PAIRS += [(name, "shared") for name in LABELS if name != "shared"]
SAME = [
    {"neutral", "no emotion"},
    {"joy", "happy", "happiness", "joyful", "excited"},
    {"sadness", "sad"},
    {"anger", "angry", "mad", "frustrated"},
    {"fear", "scared"},
    {"surprise"},
    {"disgust"},
]
"""What may be mapped to what."""

GOOD: dict[str, Any] = {
    "from": {"name": "ours", "labels": ["joy", "bliss", "rage"]},
    "to": {"name": "theirs", "labels": ["happy", "calm"]},
    "map": {"joy": "happy", "bliss": "happy"},
    "drop": {"from": ["rage"], "to": ["calm"]},
}


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=lambda name: name)
def test_a_map_that_ships_names_the_labels_of_the_importers(source: str, target: str) -> None:
    found = read_label_map(str(FOLDER / f"{source}-to-{target}.yaml"))
    found.check_source(LABELS[source], whose=source)
    found.check_target(LABELS[target], whose=target)
    assert (found.source.name, found.target.name) == (source, target)
    for ours, theirs in found.map.items():
        assert any({ours, theirs} <= meaning for meaning in SAME), f"{ours} is not {theirs}"
    left = [(ours, theirs) for ours in found.drop.source for theirs in found.drop.target]
    assert not [pair for pair in left if any(set(pair) <= meaning for meaning in SAME)], "dropped, though both have it"


def test_no_other_map_ships() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == {f"{source}-to-{target}" for source, target in PAIRS}


def write(tmp_path: Path, **changes: Any) -> str:
    place = tmp_path / "map.yaml"
    place.write_text(yaml.safe_dump(GOOD | changes))
    return str(place)


def test_several_labels_may_go_to_one(tmp_path: Path) -> None:
    assert read_label_map(write(tmp_path)).kept == ["happy"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"drop": {"to": ["calm"]}}, "'rage' of from is missing; map it, or name it in drop: {from: […]}"),
        ({"drop": {"from": ["rage"]}}, "'calm' of to is missing"),
        ({"map": {"joy": "happy", "blis": "happy"}}, "'blis' is not a label of from; did you mean bliss?"),
        ({"map": {"joy": "hapy", "bliss": "happy"}}, "'hapy' is not a label of to; did you mean happy?"),
        ({"drop": {"from": ["rage", "joy"], "to": ["calm"]}}, "'joy' of from is both mapped and dropped"),
        ({"to": {"name": "theirs", "labels": ["happy", "calm", "calm"]}}, "'calm' is named twice"),
        ({"maps": {}}, "maps: Extra inputs are not permitted"),
    ],
)
def test_a_map_that_is_wrong_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_label_map(write(tmp_path, **changes))
    assert message in str(caught.value)
    assert "map.yaml" in str(caught.value)


def test_a_map_that_is_absent_or_not_yaml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no label map at"):
        read_label_map(str(tmp_path / "nowhere.yaml"))
    (tmp_path / "broken.yaml").write_text("from: [")
    with pytest.raises(ConfigError, match="is not YAML"):
        read_label_map(str(tmp_path / "broken.yaml"))


def test_a_side_must_name_the_labels_it_is_used_for() -> None:
    found = LabelMap.model_validate(GOOD)
    found.check_source(["rage", "joy", "bliss"], whose="the bundle")
    with pytest.raises(ConfigError, match=r"from \(ours\) of the label map lacks 'awe', a label of the bundle"):
        found.check_source(["joy", "bliss", "rage", "awe"], whose="the bundle")
    with pytest.raises(
        ConfigError, match=r"to \(theirs\) of the label map names 'calm', which is not a label of the corpus"
    ):
        found.check_target(["happy"], whose="the corpus")
