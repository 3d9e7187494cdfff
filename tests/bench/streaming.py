"""What the next utterance of a conversation costs a causal bundle: `python tests/bench/streaming.py [--utterances N]`.

Bundles that were never trained, of 384 text and 8 audio values a vector and seven labels, one thread, CPU time of
this process. An utterance is checked, encoded, scored and decoded, as `StreamedConversation.add` does it. The largest
difference is that of a probability from the one that the whole conversation gives.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from joyful_ray.config import load_job
from joyful_ray.corpora.shards import open_corpus
from joyful_ray.corpora.synthetic import synthesize
from joyful_ray.data.prepare import prepare_here
from joyful_ray.predict.predictor import Predictor
from joyful_ray.records import Scores
from joyful_ray.schema import Modality
from joyful_ray.storage import open_location
from joyful_ray.train.build import build_model
from joyful_ray.train.bundle import write_bundle

WIDTHS: dict[Modality, int] = {"text": 384, "audio": 8}
KINDS = {
    "joyful": [],
    "joyful, all earlier utterances": ["graph.window_past=null"],
    "joyful, party state": ["model.context.speakers=party-state"],
    "paper": ["model.preset=paper"],
    "released": ["model.preset=released"],
}


def predictor_of(folder: Path, corpus: str, overrides: list[str]) -> Predictor:
    """An untrained causal bundle."""
    job = load_job(None, [f"corpus={corpus}", "model.causal=true", *overrides])
    corpus_info, _ = prepare_here(open_corpus(corpus), job)
    dev = Scores(task="single-label", utterances=1, loss=0.0, values={})
    weights = build_model(job, corpus_info).state_dict()
    write_bundle(open_location(str(folder)), job=job, corpus_info=corpus_info, weights=weights, dev=dev, epoch=0)
    return Predictor.open(str(folder), device="cpu")


def main() -> None:
    """Print one line for each kind of bundle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--utterances", type=int, default=600, help="length of the conversation")
    count = parser.parse_args().utterances
    torch.set_num_threads(1)
    draw = np.random.default_rng(0)
    vectors = {name: draw.normal(size=(count, width)).astype(np.float32) for name, width in WIDTHS.items()}
    speakers = [f"speaker {who}" for who in draw.integers(0, 3, count)]
    print(f"{'bundle':32} {'median ms':>9} {'p99 ms':>7} {'last 50 ms':>10} {'difference':>10}")
    with tempfile.TemporaryDirectory() as folder:
        corpus = str(Path(folder) / "corpus")
        synthesize(corpus, conversations=60, seed=1, widths=WIDTHS)
        for place, (name, overrides) in enumerate(KINDS.items()):
            predictor = predictor_of(Path(folder) / str(place), corpus, overrides)
            conversation, spent, rows = predictor.start_conversation("one"), [], []
            for index in range(count):
                utterance = {"speaker": speakers[index], **{name: part[index] for name, part in vectors.items()}}
                began = time.process_time()
                rows.append(conversation.add(utterance))
                spent.append(1000 * (time.process_time() - began))
            whole = predictor.predict([{"conversation_id": "one", "speakers": speakers, **vectors}]).to_pylist()
            difference = max(
                abs(one[key] - other[key])
                for one, other in zip(rows, whole, strict=True)
                for key in one
                if key.startswith("probability_")
            )
            p99 = float(np.quantile(spent, 0.99))
            last = statistics.median(spent[-50:])
            print(f"{name:32} {statistics.median(spent):9.1f} {p99:7.1f} {last:10.1f} {difference:10.1e}")


if __name__ == "__main__":
    main()
