"""The synthetic corpus: the dependencies that it plants are in the data, and its optimum is exact."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from joyful_ray.cli import main
from joyful_ray.corpora import synthetic
from joyful_ray.corpora.card import inspect_corpus
from joyful_ray.corpora.shards import Corpus, open_corpus
from joyful_ray.corpora.synthetic import synthesize
from joyful_ray.corpora.synthetic_optimum import chain_posterior, guess_in_context
from joyful_ray.corpora.synthetic_process import LABELS, Turns, draw_states, draw_turns, transitions
from joyful_ray.errors import ConfigError
from joyful_ray.schema import Conversation, Task


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    out = str(tmp_path_factory.mktemp("synthetic") / "c")
    synthesize(out, conversations=400, seed=5)
    return open_corpus(out)


def test_the_same_seed_gives_the_same_corpus(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        synthesize(str(tmp_path / name), conversations=12, seed=seed)
    first, second, third = (open_corpus(str(tmp_path / name)).hash for name in "abc")
    assert first == second != third


def test_a_large_corpus_is_drawn_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "PART", 50)
    manifest = synthesize(str(tmp_path / "large"), conversations=220, seed=3)
    corpus = open_corpus(str(tmp_path / "large"))
    names = [item.conversation_id for split in corpus.splits() for item in corpus.conversations(split)]
    bounds = {"train": (0, 176), "dev": (176, 198), "test": (198, 220)}
    assert names == [f"{split}_3_{index}" for split, (first, last) in bounds.items() for index in range(first, last)]
    assert manifest.notes["optimum"]["conversations"] == 2, "the part with the first test conversation ends at 200"
    train = list(corpus.conversations("train"))
    rows = min(len(train[0]), len(train[50]))
    ours, theirs = (item.features["text"][:rows] for item in (train[0], train[50]))
    assert not np.array_equal(ours, theirs), "parts are drawn by themselves"


def test_the_command_takes_widths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "corpus")
    assert main(["synth", "--out", out, "--conversations", "5", "--width", "text=7", "--width", "audio=4"]) == 0
    assert open_corpus(out).manifest.widths == {"text": 7, "audio": 4}
    for wrong, message in (("smell=3", "--width"), ("text", "--width takes MODALITY=N"), ("text=2", "at least 4")):
        assert main(["synth", "--out", str(tmp_path / "no"), "--conversations", "5", "--width", wrong]) == 2
        assert message in capsys.readouterr().err


def test_splits_lengths_speakers_and_gaps_are_varied(corpus: Corpus) -> None:
    card = inspect_corpus(corpus)
    assert {name: split.conversations for name, split in card.splits.items()} == {"train": 320, "dev": 40, "test": 40}
    train = card.splits["train"]
    assert train.utterances_per_conversation is not None
    assert train.utterances_per_conversation.least == 1
    assert train.utterances_per_conversation.most == 30
    assert train.most_speakers == 4
    for modality, width in (("text", 32), ("audio", 16), ("vision", 24)):
        assert card.modalities[modality].width == width  # type: ignore[index]
        assert 0.93 < train.present[modality] / train.utterances < 0.97  # type: ignore[index]
        assert train.absent_cells[modality] > 0  # type: ignore[index]
    counts = sorted(train.labels.values())
    assert counts[-1] > 3 * counts[0] > 0
    assert card.warnings == []


def test_widths_and_modalities_can_be_chosen(tmp_path: Path) -> None:
    manifest = synthesize(str(tmp_path), conversations=5, seed=0, widths={"audio": 5, "text": 4})
    assert manifest.widths == {"text": 4, "audio": 5}
    assert [manifest.splits[split].conversations for split in ("train", "dev", "test")] == [3, 1, 1]


def test_too_little_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--conversations is 2; each of train, dev and test needs one"):
        synthesize(str(tmp_path), conversations=2, seed=0)
    with pytest.raises(ConfigError, match="text vectors have width 3; at least 4 is needed"):
        synthesize(str(tmp_path), conversations=5, seed=0, widths={"text": 3})


def test_a_state_depends_on_the_last_states_of_both_speakers(corpus: Corpus) -> None:
    """Given the speaker's own last label, the other's still moves the next one, by the planted share."""
    anger, fear, neutral = (LABELS.index(name) for name in ("anger", "fear", "neutral"))
    both, _ = transitions("single-label")
    assert both[neutral, anger, fear] - both[neutral, neutral, fear] == pytest.approx(0.35)
    assert both[fear, neutral, fear] - both[neutral, neutral, fear] == pytest.approx(0.5)
    turns = draw_turns(4000, np.random.default_rng(0))
    states_NT = draw_states("single-label", turns, np.random.default_rng(1))
    counts = np.zeros((6, 6, 6))
    for index in range(4000):
        last: dict[int, int] = {}
        for turn in range(turns.lengths_N[index]):
            who, other = int(turns.speaker_NT[index, turn]), int(turns.other_NT[index, turn])
            state = int(states_NT[index, turn])
            if who in last and other in last:
                counts[last[who], last[other], state] += 1
            last[who] = state
    often = counts.sum(axis=2) > 300
    shares = counts[often] / counts[often].sum(axis=1, keepdims=True)
    assert often.sum() > 15
    assert np.abs(shares - both[often]).max() < 0.08


def test_the_other_speaker_is_the_last_different_one() -> None:
    turns = draw_turns(50, np.random.default_rng(3))
    for who_T, other_T, length in zip(turns.speaker_NT, turns.other_NT, turns.lengths_N, strict=True):
        for turn in range(length):
            before = [int(name) for name in who_T[:turn] if name != who_T[turn]]
            assert other_T[turn] == (before[-1] if before else -1)


def features(conversations: list[Conversation], leave_out: str = "") -> np.ndarray:
    kept = [name for name in conversations[0].features if name != leave_out]
    return np.concatenate(
        [np.concatenate([np.nan_to_num(item.features[name]) for name in kept], axis=1) for item in conversations]
    )


def oracle_context(conversations: list[Conversation]) -> np.ndarray:
    """One-hot: the true last label of the speaker, and of the last other speaker."""
    rows = []
    for item in conversations:
        last: dict[str, int] = {}
        other = ""
        for turn, speaker in enumerate(item.speakers):
            if turn and item.speakers[turn - 1] != speaker:
                other = item.speakers[turn - 1]
            row = np.zeros(14)
            row[last.get(speaker, 6)] = 1
            row[7 + last.get(other, 6)] = 1
            last[speaker] = LABELS.index(str(item.labels[turn]))
            rows.append(row)
    return np.array(rows)


def test_context_and_each_modality_are_needed_by_a_trained_classifier(corpus: Corpus) -> None:
    train = list(corpus.conversations("train"))
    held_out = [*corpus.conversations("dev"), *corpus.conversations("test")]
    truth = [label for item in held_out for label in item.labels]
    labels = [label for item in train for label in item.labels]

    def weighted_f1(train_UF: np.ndarray, held_out_UF: np.ndarray) -> float:
        classifier = LogisticRegression(C=0.1, max_iter=300).fit(train_UF, labels)
        return float(f1_score(truth, classifier.predict(held_out_UF), average="weighted"))

    alone = weighted_f1(features(train), features(held_out))
    in_context = weighted_f1(
        np.concatenate([features(train), oracle_context(train)], axis=1),
        np.concatenate([features(held_out), oracle_context(held_out)], axis=1),
    )
    assert in_context > alone + 0.08
    for modality in ("text", "audio", "vision"):
        assert weighted_f1(features(train, modality), features(held_out, modality)) < alone - 0.03


def test_the_optimum_falls_without_context_and_without_each_modality(corpus: Corpus) -> None:
    best = corpus.manifest.notes["optimum"]["weighted_f1"]
    assert 0.75 < best < 0.95
    without = {name: scores["weighted_f1"] for name, scores in corpus.manifest.notes["optimum_without"].items()}
    assert set(without) == {"context", "text", "audio", "vision"}
    assert max(without.values()) < best - 0.02
    assert without["context"] < best - 0.08


def test_the_optimum_is_that_of_the_corpus_as_written(corpus: Corpus) -> None:
    """From the shards alone, with the planted model known: the same guesses, so the same accuracy."""
    from joyful_ray.corpora.synthetic import WIDTHS
    from joyful_ray.corpora.synthetic_process import signals_of

    test = list(corpus.conversations("test"))
    lengths_N = np.array([len(item) for item in test])
    speaker_NT = np.zeros((len(test), lengths_N.max()), dtype=np.int64)
    other_NT = np.full_like(speaker_NT, -1)
    for index, item in enumerate(test):
        numbers = [["Ada", "Ben", "Cem", "Dia"].index(name) for name in item.speakers]
        speaker_NT[index, : len(item)] = numbers
        for turn, who in enumerate(numbers):
            other_NT[index, turn] = next((name for name in reversed(numbers[:turn]) if name != who), -1)
    vectors = {name: np.concatenate([item.features[name] for item in test]) for name in WIDTHS}
    turns = Turns(lengths_N, speaker_NT, other_NT)
    guesses = guess_in_context("single-label", turns, vectors, signals_of("single-label", WIDTHS, 0))
    truth = np.array([LABELS.index(str(label)) for item in test for label in item.labels])
    assert (guesses == truth).mean() == pytest.approx(corpus.manifest.notes["optimum"]["accuracy"])


def posterior_by_enumeration(likelihood: Any, who: Any, other: Any, both: Any, alone: Any, start: Any) -> np.ndarray:
    speakers, turns, states = max(who) + 1, len(who), len(start)
    posterior = np.zeros((turns, states))
    for before in itertools.product(range(states), repeat=speakers):
        for path in itertools.product(range(states), repeat=turns):
            last = list(before)
            chance = float(np.prod([start[state] for state in before]))
            for turn, state in enumerate(path):
                own, another = last[who[turn]], other[turn]
                chance *= alone[own, state] if another < 0 else both[own, last[another], state]
                chance *= likelihood[turn, state]
                last[who[turn]] = state
            for turn, state in enumerate(path):
                posterior[turn, state] += chance
    return posterior / posterior.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("who", [[0], [0, 0], [0, 1, 0, 1], [0, 1, 2, 1, 0]])
def test_the_chain_posterior_is_that_of_all_paths_added_up(who: list[int]) -> None:
    random = np.random.default_rng(len(who))
    other = [next((name for name in reversed(who[:turn]) if name != who[turn]), -1) for turn in range(len(who))]
    both = random.dirichlet(np.ones(3), size=(3, 3))
    alone, start = random.dirichlet(np.ones(3), size=3), random.dirichlet(np.ones(3))
    likelihood = random.random((len(who), 3))
    found = chain_posterior(likelihood, np.array(who), np.array(other), both, alone, start)
    np.testing.assert_allclose(found, posterior_by_enumeration(likelihood, who, other, both, alone, start))


@pytest.mark.parametrize("task", ["multi-label", "regression"])
def test_the_other_tasks_have_an_optimum_that_needs_everything(tmp_path: Path, task: Task) -> None:
    manifest = synthesize(str(tmp_path), conversations=300, seed=4, task=task)
    assert manifest.task == task
    best, without = manifest.notes["optimum"], manifest.notes["optimum_without"]
    for scores in without.values():
        if task == "regression":
            assert scores["mean_absolute_error"] > best["mean_absolute_error"] * 1.03
            assert scores["correlation"] < best["correlation"]
        else:
            assert scores["weighted_f1"] < best["weighted_f1"] - 0.02
    labels = [label for item in open_corpus(str(tmp_path)).conversations("train") for label in item.labels]
    if task == "multi-label":
        sizes = {len(label) for label in labels if isinstance(label, list)}
        assert {0, 1, 2} <= sizes
    else:
        assert 0.5 < np.std(np.array(labels, dtype=float)) < 1.5


def test_the_gaussian_optimum_is_the_least_squares_one(tmp_path: Path) -> None:
    """No linear reader of the own and neighbouring vectors does better than the planted optimum."""
    manifest = synthesize(str(tmp_path), conversations=400, seed=8, task="regression", absent_vectors=0, absent_cells=0)
    corpus = open_corpus(str(tmp_path))

    def table(split: Any) -> tuple[np.ndarray, np.ndarray]:
        rows, numbers = [], []
        for item in corpus.conversations(split):
            own = np.concatenate(list(item.features.values()), axis=1)
            padded = np.concatenate([np.zeros((2, own.shape[1])), own, np.zeros((2, own.shape[1]))])
            rows.append(np.concatenate([padded[shift : shift + len(own)] for shift in range(5)], axis=1))
            numbers.append(np.array(item.labels, dtype=float))
        return np.concatenate(rows), np.concatenate(numbers)

    train_UF, train_U = table("train")
    test_UF, test_U = table("test")
    weights = np.linalg.solve(train_UF.T @ train_UF + 10 * np.eye(train_UF.shape[1]), train_UF.T @ train_U)
    error = np.abs(test_UF @ weights - test_U).mean()
    best = manifest.notes["optimum"]["mean_absolute_error"]
    assert best < error < manifest.notes["optimum_without"]["context"]["mean_absolute_error"] * 1.05


def test_progress_counts_conversations(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    out = str(tmp_path / "corpus")
    synthesize(out, conversations=5, seed=0, watch=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 5) for done in range(1, 6)]
