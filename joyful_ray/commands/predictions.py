"""Commands that use a trained model on other corpora."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from joyful_ray.commands.options import Bundles, Json, one_of
from joyful_ray.commands.runs import DEVICES

if TYPE_CHECKING:
    from joyful_ray.console.screen import Screen
    from joyful_ray.predict.decoder import VectorChoice


CorpusOption = Annotated[
    str | None,
    typer.Option("--corpus", metavar="URI", help="Corpus to predict; it needs no labels.", show_default=False),
]
JsonlOption = Annotated[
    str | None,
    typer.Option(
        "--jsonl", metavar="FILE", help="JSONL file of new conversations, instead of --corpus.", show_default=False
    ),
]
OutOption = Annotated[
    str | None,
    typer.Option(
        "--out",
        metavar="URI",
        help="With --corpus: folder for the Parquet files, a path or s3:// URI. With --jsonl: a .jsonl, .csv or "
        ".parquet file; without it, the predictions are printed.",
        show_default=False,
    ),
]
SplitOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Split to predict: train, dev or test; may be repeated. Default: all splits.", show_default=False
    ),
]
WorkersOption = Annotated[
    int, typer.Option(min=0, help="Ray actors that predict a corpus; 0 predicts in this process without Ray.")
]
GpusOption = Annotated[float, typer.Option(min=0.0, help="GPUs per actor; with a fraction, actors share a GPU.")]
AddressOption = Annotated[
    str | None, typer.Option(help="Address of the Ray cluster to join. Default: a local one.", show_default=False)
]
EmbeddingOption = Annotated[
    bool, typer.Option("--embedding", help="Also write the graph encoder's vector of each utterance.")
]
SharedOption = Annotated[
    bool,
    typer.Option(
        "--shared",
        help="Also write each modality's vector in the basis that all share; see joyful retrieve.",
    ),
]
DeviceOption = Annotated[str, typer.Option(help="Device for predictions without Ray: auto, cpu or cuda.")]


def predict(
    context: typer.Context,
    bundle: Bundles,
    corpus: CorpusOption = None,
    jsonl: JsonlOption = None,
    out: OutOption = None,
    split: SplitOption = None,
    workers: WorkersOption = 2,
    gpus_per_worker: GpusOption = 0.0,
    address: AddressOption = None,
    embedding: EmbeddingOption = False,
    shared: SharedOption = False,
    device: DeviceOption = "auto",
    as_json: Json = False,
) -> None:
    """Predict every utterance of a corpus or a JSONL file. The same command continues after an interruption."""
    from joyful_ray.console.counting import CountDisplay
    from joyful_ray.console.predictions import show_prediction
    from joyful_ray.console.screen import Screen
    from joyful_ray.predict.decoder import VectorChoice
    from joyful_ray.schema import SPLITS
    from joyful_ray.settings import ClusterConfig

    _check_options(context, has_jsonl=jsonl is not None)
    screen = Screen(as_json=as_json)
    splits = [one_of(SPLITS, name, "--split") for name in split] if split else None
    chosen_device = one_of(DEVICES, device, "--device")
    if (corpus is None) == (jsonl is None):
        raise typer.BadParameter("give either --corpus URI or --jsonl FILE")
    if jsonl is not None:
        _predict_jsonl(screen, bundle, jsonl, out, VectorChoice(embedding, shared), device=chosen_device)
        return
    if corpus is None or out is None:
        raise typer.BadParameter("--corpus needs --out URI")
    from joyful_ray.predict.job import predict_corpus

    with CountDisplay(screen, "predicted", "shard") as display:
        card = predict_corpus(
            bundle,
            corpus,
            out,
            splits=splits,
            cluster=ClusterConfig(workers=workers, gpus_per_worker=gpus_per_worker, address=address),
            vectors=VectorChoice(embedding, shared),
            device=chosen_device,
            watch=display.update,
        )
    show_prediction(screen, card, out)
    screen.result(card)


def _check_options(context: typer.Context, *, has_jsonl: bool) -> None:
    """Refuse options that the given kind of input would not use."""

    def is_given(name: str) -> bool:
        source = context.get_parameter_source(name)
        return source is not None and source.name != "DEFAULT"

    for name in ("split", "workers", "gpus_per_worker", "address"):
        if has_jsonl and is_given(name):
            raise typer.BadParameter(f"--{name.replace('_', '-')} belongs to --corpus, not to --jsonl")
    if not has_jsonl and is_given("device") and context.params["workers"] > 0:
        raise typer.BadParameter("--device needs --workers 0; with Ray, use --gpus-per-worker")


def _predict_jsonl(
    screen: Screen, bundle: list[str], source: str, out: str | None, vectors: VectorChoice, *, device: str
) -> None:
    from joyful_ray.console.predictions import show_jsonl_predictions
    from joyful_ray.predict.jsonl import predict_jsonl

    found = predict_jsonl(bundle, source, out, vectors=vectors, device=device)
    show_jsonl_predictions(screen, found)
    rows = None if found.table is None else found.table.to_pylist()
    counts = {"conversations": found.conversations, "utterances": found.utterances}
    screen.result({**counts, "out": found.out, "predictions": rows})
