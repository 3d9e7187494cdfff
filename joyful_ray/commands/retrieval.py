"""The command that finds utterances with a trained model."""

from __future__ import annotations

from typing import Annotated

import typer

from joyful_ray.commands.options import Device, Json, one_of
from joyful_ray.commands.runs import DEVICES

BundleArgument = Annotated[
    str, typer.Argument(metavar="BUNDLE", help="Trained model: path or s3:// URI of <run>/bundle.", show_default=False)
]
CorpusOption = Annotated[
    str, typer.Option("--corpus", metavar="URI", help="Corpus to search; it needs no labels.", show_default=False)
]
QueryOption = Annotated[
    list[str] | None,
    typer.Option(
        "--query",
        metavar="ID",
        help="Utterance that searches: its id, or <conversation id>/<utterance id>; may be repeated.",
        show_default=False,
    ),
]
TextOption = Annotated[
    list[str] | None,
    typer.Option(
        "--text",
        metavar="TEXT",
        help="Text that searches, if the model reads words (data.word_ngrams); may be repeated.",
        show_default=False,
    ),
]
FromOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="MODALITY",
        help="Modality that searches: text, audio or vision. Without a query, measures how often it finds the other.",
        show_default=False,
    ),
]
ToOption = Annotated[
    str | None, typer.Option("--to", metavar="MODALITY", help="Modality that is searched.", show_default=False)
]
CountOption = Annotated[int, typer.Option("--count", min=1, metavar="N", help="Matches per query.")]
SplitOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Split to search: train, dev or test; may be repeated. Default: all splits, and test without a query.",
        show_default=False,
    ),
]
VectorsOption = Annotated[
    str | None,
    typer.Option(
        "--vectors",
        metavar="URI",
        help="What joyful predict --embedding --shared wrote for this bundle and corpus; otherwise it is computed.",
        show_default=False,
    ),
]
OutOption = Annotated[
    str | None,
    typer.Option(
        "--out", metavar="FILE", help="Also write all matches, to a .jsonl, .csv or .parquet file.", show_default=False
    ),
]


def retrieve(
    bundle: BundleArgument,
    corpus: CorpusOption,
    query: QueryOption = None,
    text: TextOption = None,
    source: FromOption = None,
    target: ToOption = None,
    count: CountOption = 10,
    split: SplitOption = None,
    vectors: VectorsOption = None,
    out: OutOption = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Find the utterances nearest to an utterance or a text, or measure how well one modality finds another."""
    from joyful_ray.console.retrieval import show_matches, show_retrieval_scores
    from joyful_ray.console.screen import Screen
    from joyful_ray.predict.table_file import table_format, write_table
    from joyful_ray.retrieval.search import Direction, score_modalities
    from joyful_ray.retrieval.search import retrieve as search
    from joyful_ray.schema import MODALITIES, SPLITS

    screen = Screen(as_json=as_json)
    splits = [one_of(SPLITS, name, "--split") for name in split] if split else None
    chosen_device = one_of(DEVICES, device, "--device")
    searching = None if source is None else one_of(MODALITIES, source, "--from")
    searched = None if target is None else one_of(MODALITIES, target, "--to")
    if (searching is None) != (searched is None):
        raise typer.BadParameter("--from and --to belong together: the modality that searches, and the one searched")
    if out is not None:
        table_format(out)
    if query or text:
        matches = search(
            bundle,
            corpus,
            queries=query or (),
            texts=text or (),
            direction=Direction(searching, searched),
            splits=splits,
            count=count,
            vectors=vectors,
            device=chosen_device,
        )
        show_matches(screen, matches)
        if out is not None:
            screen.say(f"wrote {matches.num_rows:,} matches to {write_table(matches, out)}")
        screen.result({"matches": matches.to_pylist(), "out": out})
        return
    if searching is None or searched is None:
        raise typer.BadParameter("give --query or --text, or --from and --to to measure how one modality finds another")
    if out is not None:
        raise typer.BadParameter("--out belongs to a search with --query or --text")
    scores = score_modalities(bundle, corpus, searching, searched, splits=splits, vectors=vectors, device=chosen_device)
    show_retrieval_scores(screen, scores)
    screen.result(scores)
