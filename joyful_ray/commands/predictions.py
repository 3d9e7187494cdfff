"""Commands that use a trained model on other corpora."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from joyful_ray.commands.options import Bundle, Json, one_of
from joyful_ray.commands.runs import DEVICES

if TYPE_CHECKING:
    from joyful_ray.console.screen import Screen


CorpusOption = Annotated[
    str | None,
    typer.Option("--corpus", metavar="URI", help="Corpus to read. Labels are not needed.", show_default=False),
]
JsonlOption = Annotated[
    str | None,
    typer.Option(
        "--jsonl", metavar="FILE", help="JSONL file of new conversations to read instead.", show_default=False
    ),
]
OutOption = Annotated[
    str | None,
    typer.Option(
        "--out",
        metavar="URI",
        help="Folder for the Parquet files of a corpus; or a .jsonl, .csv or .parquet file for --jsonl, "
        "which prints the predictions without it.",
        show_default=False,
    ),
]
SplitOption = Annotated[
    list[str] | None,
    typer.Option(help="Split of the corpus: train, dev or test. May be repeated; default all.", show_default=False),
]
WorkersOption = Annotated[int, typer.Option(min=0, help="Ray actors that predict; 0 predicts without Ray.")]
GpusOption = Annotated[float, typer.Option(min=0.0, help="GPUs per actor; a fraction shares a GPU.")]
AddressOption = Annotated[
    str | None, typer.Option(help="Ray cluster to join; default a local one.", show_default=False)
]
EmbeddingOption = Annotated[
    bool, typer.Option("--embedding", help="Add the vector that the graph gave each utterance.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda, for predictions without Ray.")]


def predict(
    bundle: Bundle,
    corpus: CorpusOption = None,
    jsonl: JsonlOption = None,
    out: OutOption = None,
    split: SplitOption = None,
    workers: WorkersOption = 2,
    gpus_per_worker: GpusOption = 0.0,
    address: AddressOption = None,
    embedding: EmbeddingOption = False,
    device: DeviceOption = "auto",
    as_json: Json = False,
) -> None:
    """Predict the label of every utterance of a corpus or a JSONL file. The same command continues."""
    from joyful_ray.console.predictions import ShardDisplay, show_prediction
    from joyful_ray.console.screen import Screen
    from joyful_ray.schema import SPLITS
    from joyful_ray.settings import ClusterConfig

    screen = Screen(as_json=as_json)
    splits = [one_of(SPLITS, name, "--split") for name in split] if split else None
    chosen_device = one_of(DEVICES, device, "--device")
    if (corpus is None) == (jsonl is None):
        raise typer.BadParameter("give either --corpus URI or --jsonl FILE")
    if jsonl is not None:
        if splits is not None or address is not None:
            raise typer.BadParameter("--split and --address belong to --corpus, not to --jsonl")
        _predict_jsonl(screen, bundle, jsonl, out, embedding=embedding, device=chosen_device)
        return
    if corpus is None or out is None:
        raise typer.BadParameter("--corpus needs --out URI")
    from joyful_ray.predict.job import predict_corpus

    with ShardDisplay(screen) as display:
        card = predict_corpus(
            bundle,
            corpus,
            out,
            splits=splits,
            cluster=ClusterConfig(workers=workers, gpus_per_worker=gpus_per_worker, address=address),
            embedding=embedding,
            device=chosen_device,
            watch=display.shard,
        )
    show_prediction(screen, card, out)
    screen.result(card)


def _predict_jsonl(screen: Screen, bundle: str, source: str, out: str | None, *, embedding: bool, device: str) -> None:
    from joyful_ray.console.predictions import show_jsonl_predictions
    from joyful_ray.predict.jsonl import predict_jsonl

    found = predict_jsonl(bundle, source, out, embedding=embedding, device=device)
    show_jsonl_predictions(screen, found)
    rows = None if found.table is None else found.table.to_pylist()
    counts = {"conversations": found.conversations, "utterances": found.utterances}
    screen.result({**counts, "out": found.out, "predictions": rows})
