"""Commands that use a trained model on other corpora."""

from __future__ import annotations

from typing import Annotated

import typer

from joyful_ray.commands.options import Bundle, Json, one_of
from joyful_ray.commands.runs import DEVICES


def predict(
    bundle: Bundle,
    corpus: Annotated[str, typer.Option("--corpus", metavar="URI", help="The corpus to read; labels are not needed.")],
    out: Annotated[str, typer.Option("--out", metavar="URI", help="Where the Parquet files go: a path or s3:// URI.")],
    split: Annotated[
        list[str] | None,
        typer.Option(help="train, dev or test; may be repeated; all without it.", show_default=False),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Actors that predict, on Ray; 0 predicts in this process without Ray.")
    ] = 2,
    gpus_per_worker: Annotated[float, typer.Option(min=0.0, help="Share of a GPU, or GPUs, of each actor.")] = 0.0,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to join; a local one without it.", show_default=False)
    ] = None,
    embedding: Annotated[bool, typer.Option("--embedding", help="Add each utterance's vector.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda, for --workers 0.")] = "auto",
    as_json: Json = False,
) -> None:
    """Write the emotion of every utterance of a corpus as Parquet; the same command continues where it was stopped."""
    from joyful_ray.console.predictions import ShardDisplay, show_prediction
    from joyful_ray.console.screen import Screen
    from joyful_ray.schema import SPLITS
    from joyful_ray.settings import ClusterConfig

    screen = Screen(as_json=as_json)
    splits = [one_of(SPLITS, name, "--split") for name in split] if split else None
    chosen_device = one_of(DEVICES, device, "--device")
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
