"""Shards: what is written comes back, half a corpus never looks whole, and a damaged one is refused with a reason."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from joyful_ray.corpora import shard_file, shards
from joyful_ray.corpora.shards import (
    Corpus,
    CorpusWriter,
    ShardReader,
    conversations_from_table,
    open_corpus,
    table_from_conversations,
)
from joyful_ray.errors import CorpusError, StorageError
from joyful_ray.schema import Conversation
from joyful_ray.storage import Location
from tests.corpora.examples import CONTRACTS, LABELS, assert_same, conversation, with_gaps, write
from tests.s3_server import make_bucket, s3_server


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    train = [conversation("a", 3), conversation("b", 1), with_gaps()]
    write(str(tmp_path / "c"), {"train": train, "test": [conversation("t", 40)]})
    corpus = open_corpus(str(tmp_path / "c"))
    for found, expected in zip(corpus.conversations("train"), train, strict=True):
        assert_same(found, expected)
    assert [len(item) for item in corpus.conversations("test")] == [40]
    assert list(corpus.conversations("dev")) == []
    assert corpus.read_table("dev").num_rows == 0
    assert corpus.splits() == ["train", "test"]


def test_absent_cells_are_null_in_the_file_and_nan_in_memory(tmp_path: Path) -> None:
    write(str(tmp_path / "c"), {"train": [with_gaps()]})
    table = pq.read_table(tmp_path / "c/train/part-00000.parquet", partitioning=None)
    assert table.column("audio").to_pylist() == [[1.0, None, None, None]]
    assert table.column("audio_present").to_pylist() == [[True, False]]
    assert table.column("labels").to_pylist() == [["joy", None]]


def test_the_manifest_counts_labels_gaps_and_utterances(tmp_path: Path) -> None:
    manifest = write(str(tmp_path / "c"), {"train": [conversation("a", 4), with_gaps()], "dev": []})
    train = manifest.splits["train"]
    assert (train.conversations, train.utterances, train.unlabeled) == (2, 6, 1)
    assert train.labels == {"joy": 3, "anger": 1, "neutral": 1}
    assert train.present == {"text": 6, "audio": 5}
    assert manifest.splits["dev"].conversations == 0


def test_shards_close_at_a_number_of_conversations_and_at_a_size(tmp_path: Path) -> None:
    many = [conversation(f"c{index}", 2) for index in range(5)]
    manifest = write(str(tmp_path / "count"), {"train": many}, shard_conversations=2)
    assert [shard.rows for shard in manifest.splits["train"].shards] == [2, 2, 1]
    manifest = write(str(tmp_path / "size"), {"train": many}, shard_bytes=400)
    assert [shard.rows for shard in manifest.splits["train"].shards] == [2, 2, 1]
    corpus = open_corpus(str(tmp_path / "count"))
    assert [item.conversation_id for item in corpus.conversations("train")] == ["c0", "c1", "c2", "c3", "c4"]
    assert corpus.read_table("train").num_rows == 5
    assert corpus.shards("train")[2].name == "train/part-00002.parquet"
    assert corpus.shards("train")[2].bytes == (tmp_path / "count/train/part-00002.parquet").stat().st_size


def test_a_conversation_longer_than_a_shard_is_kept_whole(tmp_path: Path) -> None:
    write(str(tmp_path / "c"), {"train": [conversation("long", 10_000)]}, shard_bytes=1000)
    assert [len(item) for item in open_corpus(str(tmp_path / "c")).conversations("train")] == [10_000]


def test_the_hash_follows_the_data_and_nothing_else(tmp_path: Path) -> None:
    write(str(tmp_path / "a"), {"train": [conversation("a")]}, name="one")
    write(str(tmp_path / "b"), {"train": [conversation("a")]}, name="two", notes={"when": "later"})
    write(str(tmp_path / "c"), {"train": [conversation("a", 4)]})
    first, second, third = (open_corpus(str(tmp_path / name)).hash for name in "abc")
    assert first == second != third
    assert len(first) == 64


def test_a_corpus_can_be_pickled(tmp_path: Path) -> None:
    write(str(tmp_path / "c"), {"train": [conversation("a")]})
    corpus = open_corpus(str(tmp_path / "c"))
    assert pickle.loads(pickle.dumps(corpus)) == corpus


def test_multi_label_and_regression_labels_come_back(tmp_path: Path) -> None:
    several = conversation("m", 3, labels=[["joy", "anger"], [], None])
    manifest = write(str(tmp_path / "m"), {"train": [several]}, task="multi-label")
    assert manifest.splits["train"].labels == {"joy": 1, "anger": 1, "neutral": 0}
    assert manifest.splits["train"].unlabeled == 1
    assert next(open_corpus(str(tmp_path / "m")).conversations("train")).labels == several.labels
    numbers = conversation("r", 2, labels=[0.5, None])
    write(str(tmp_path / "r"), {"train": [numbers]}, task="regression", labels=[])
    assert next(open_corpus(str(tmp_path / "r")).conversations("train")).labels == [0.5, None]


def test_tables_may_be_slices_or_chunks(tmp_path: Path) -> None:
    items = [conversation("a", 2), with_gaps(), conversation("b", 1)]
    manifest = write(str(tmp_path / "c"), {"train": items})
    table = table_from_conversations(items, task="single-label", modalities=["text", "audio"], has_texts=True)
    assert_same(next(conversations_from_table(table.slice(1, 1), manifest)), items[1])
    chunked = pa.concat_tables([table.slice(2), table.slice(0, 1)])
    assert [item.conversation_id for item in conversations_from_table(chunked, manifest)] == ["b", "a"]


def test_columns_that_disagree_are_refused(tmp_path: Path) -> None:
    manifest = write(str(tmp_path / "c"), {"train": [conversation("a", 2)]})
    table = table_from_conversations(
        [conversation("a", 2)], task="single-label", modalities=["text", "audio"], has_texts=True
    )
    position = table.schema.get_field_index("text")
    short = table.set_column(position, table.schema.field("text"), pa.array([[1.0, 2.0, 3.0]], pa.list_(pa.float32())))
    with pytest.raises(CorpusError, match="conversation a: 2 utterances but 1 text values / 3"):
        next(conversations_from_table(short, manifest))


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("important")
    for settings in ({}, {"overwrite": True}):
        with pytest.raises(CorpusError, match=r"has thesis\.tex"):
            write(str(tmp_path), {"train": [conversation()]}, **settings)
    assert (tmp_path / "thesis.tex").read_text() == "important"


def test_overwriting_replaces_the_whole_corpus(tmp_path: Path) -> None:
    uri = str(tmp_path / "c")
    write(uri, {"train": [conversation("a")], "dev": [conversation("d")]})
    with pytest.raises(CorpusError, match="pass --overwrite"):
        write(uri, {"train": [conversation("b")]})
    write(uri, {"train": [conversation("b")]}, overwrite=True)
    assert [item.conversation_id for item in open_corpus(uri).conversations("train")] == ["b"]
    assert not (tmp_path / "c/dev").exists()
    write(uri, {"train": [conversation("c")]}, overwrite=True)
    assert [item.conversation_id for item in open_corpus(uri).conversations("train")] == ["c"]
    kinds = ["conversations", "features", "part-00000", "shards"]
    assert sorted(path.name for path in (tmp_path / "c/train").iterdir()) == [f"{kind}.parquet" for kind in kinds]


def test_a_corpus_stays_until_the_one_that_replaces_it_is_complete(tmp_path: Path) -> None:
    check_that_it_stays(str(tmp_path / "c"))


def check_that_it_stays(uri: str) -> None:
    def breaks() -> Iterator[Conversation]:
        yield conversation("new-1")
        yield conversation("new-2")
        assert [item.conversation_id for item in open_corpus(uri).conversations("train")] == ["a", "b"]
        raise RuntimeError("the disk is full")

    write(uri, {"train": [conversation("a"), conversation("b")]}, shard_conversations=1)
    earlier = open_corpus(uri)
    with pytest.raises(RuntimeError, match="disk is full"):
        write(uri, {"train": breaks()}, overwrite=True, shard_conversations=1)
    assert open_corpus(uri).manifest == earlier.manifest
    assert len(earlier.location.join("train").list()) == 5
    with pytest.raises(CorpusError, match="no conversation"):
        write(uri, {"train": []}, overwrite=True)
    assert open_corpus(uri).hash == earlier.hash
    write(uri, {"dev": [conversation("c")]}, overwrite=True)
    assert [item.conversation_id for item in open_corpus(uri).conversations("dev")] == ["c"]
    assert "train" not in earlier.location.list()


def test_old_files_that_cannot_be_removed_do_not_undo_a_complete_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = Location.remove

    def refuses(location: Location) -> None:
        if location.name == "part-00000.parquet":
            raise StorageError(f"cannot remove {location}")
        remove(location)

    uri = str(tmp_path / "c")
    write(uri, {"train": [conversation("a")]})
    monkeypatch.setattr(Location, "remove", refuses)
    with pytest.raises(StorageError, match="cannot remove"):
        write(uri, {"train": [conversation("b")]}, overwrite=True)
    assert [item.conversation_id for item in open_corpus(uri).conversations("train")] == ["b"]


def test_an_interrupted_import_leaves_no_manifest_and_no_shards(tmp_path: Path) -> None:
    def breaks() -> Iterator[Conversation]:
        yield from (conversation(f"c{index}") for index in range(5))
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write(str(tmp_path / "c"), {"train": breaks()}, shard_conversations=2)
    assert list((tmp_path / "c").rglob("*")) == []


def test_the_manifest_is_written_last(tmp_path: Path) -> None:
    with CorpusWriter(
        str(tmp_path / "c"),
        name="x",
        task="single-label",
        labels=LABELS,
        modalities=CONTRACTS,
        has_texts=True,
        shard_conversations=1,
    ) as writer:
        writer.write("train", conversation("a"))
        writer.write("dev", conversation("b"))
        assert (tmp_path / "c/train/part-00000.parquet").exists()
        assert not (tmp_path / "c/manifest.json").exists()
        with pytest.raises(CorpusError, match="which an import writes last"):
            open_corpus(str(tmp_path / "c"))
    assert open_corpus(str(tmp_path / "c")).splits() == ["train", "dev"]


@pytest.fixture
def corpus_path(tmp_path: Path) -> Path:
    write(str(tmp_path / "c"), {"train": [conversation("a"), conversation("b")]}, shard_conversations=1)
    return tmp_path / "c"


def change_manifest(path: Path, change: Any) -> None:
    content = json.loads((path / "manifest.json").read_text())
    change(content)
    (path / "manifest.json").write_text(json.dumps(content))


def refusal(path: Path) -> str:
    """What opening the corpus says or, if it opens, reading it."""
    with pytest.raises(CorpusError) as caught:
        list(open_corpus(str(path)).tables("train"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_another_format_version_is_named_first(corpus_path: Path) -> None:
    change_manifest(corpus_path, lambda content: content.update(format_version=7, new_field=1))
    message = refusal(corpus_path)
    assert "expected format version 2, found format version 7" in message
    assert "import the corpus again" in message


def test_a_folder_that_is_not_a_corpus_is_refused_with_the_reason(tmp_path: Path, corpus_path: Path) -> None:
    assert "there is no corpus at" in refusal(tmp_path / "nowhere")
    assert "has no manifest.json" in refusal(tmp_path)
    (corpus_path / "manifest.json").write_text("{,")
    assert "is not JSON (line 1" in refusal(corpus_path)


def test_a_damaged_manifest_names_the_field(corpus_path: Path) -> None:
    change_manifest(corpus_path, lambda content: content["modalities"]["text"].update(width=0))
    assert "modalities.text.width" in refusal(corpus_path)


def test_a_missing_shard_is_named_when_the_corpus_is_opened(corpus_path: Path) -> None:
    (corpus_path / "train/part-00001.parquet").unlink()
    with pytest.raises(CorpusError) as caught:
        open_corpus(str(corpus_path))
    message = str(caught.value)
    assert "train/part-00001.parquet: expected a shard of the manifest, found no such file" in message


def test_of_very_many_shards_a_missing_one_is_found_when_it_is_read(
    corpus_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MOST_LOOKED_FOR", 1)
    (corpus_path / "train/part-00001.parquet").unlink()
    corpus = open_corpus(str(corpus_path))
    with pytest.raises(StorageError, match=r"cannot read .*part-00001\.parquet: it does not exist"):
        list(corpus.tables("train"))


def test_a_changed_byte_is_found(corpus_path: Path) -> None:
    shard = corpus_path / "train/part-00000.parquet"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert "part-00000.parquet: expected sha256" in refusal(corpus_path)
    assert ", damaged in its footer; " in refusal(corpus_path)
    assert open_corpus(str(corpus_path)).manifest.name == "small"


def test_a_truncated_shard_is_found(corpus_path: Path) -> None:
    shard = corpus_path / "train/part-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:100])
    assert "in 100 bytes, damaged in its footer" in refusal(corpus_path)


def test_the_damaged_row_group_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_file, "ROW_GROUP_BYTES", 1)
    write(str(tmp_path / "c"), {"train": [conversation(f"c{place}", 20) for place in range(4)]})
    corpus = open_corpus(str(tmp_path / "c"))
    (shard,) = corpus.shards("train")
    place = tmp_path / "c" / shard.name
    group = pq.read_metadata(place).row_group(2).column(7)
    data = bytearray(place.read_bytes())
    data[group.data_page_offset + group.total_compressed_size - 3] ^= 8
    place.write_bytes(data)
    expected = r"expected sha256 .*, damaged in row group 2 \(conversations 2 to 2\); copy or import"
    with pytest.raises(CorpusError, match=expected):
        corpus.read_checked(shard)
    with pytest.raises(CorpusError, match=expected):
        next(ShardReader(corpus).batches(shard, columns=[], first=0, at_a_time=1, buffer_bytes=0))


def test_wrong_counts_are_found(corpus_path: Path) -> None:
    change_manifest(corpus_path, lambda content: content["splits"]["train"].update(utterances=9))
    assert "expected 9 utterances in train, found 6 in its shards" in refusal(corpus_path)


def replace_shard(path: Path, table: pa.Table, **options: Any) -> None:
    """Write other rows as the first shard, with a manifest that has its sha256."""
    shard = path / "train/part-00000.parquet"
    pq.write_table(table, shard, **options)
    first, *others = open_corpus(str(path)).shards("train")
    digest = hashlib.sha256(shard.read_bytes()).hexdigest()
    shards = [first.model_copy(update={"sha256": digest}), *others]
    listed = path / "train/shards.parquet"
    pq.write_table(pa.Table.from_pylist([entry.model_dump() for entry in shards]), listed)

    def change(content: Any) -> None:
        content["splits"]["train"]["side_files"]["shards"]["sha256"] = hashlib.sha256(listed.read_bytes()).hexdigest()

    change_manifest(path, change)


def test_a_missing_column_an_unknown_one_and_a_wrong_type_are_named(corpus_path: Path) -> None:
    table = pq.ParquetFile(corpus_path / "train/part-00000.parquet").read()
    replace_shard(corpus_path, table.drop_columns(["audio_present"]))
    assert "expected column audio_present" in refusal(corpus_path)
    replace_shard(corpus_path, table.append_column("smell", pa.array([1])))
    assert "column smell too" in refusal(corpus_path)
    position = table.schema.get_field_index("text")
    replace_shard(corpus_path, table.set_column(position, "text", table.column("text").cast(pa.list_(pa.float64()))))
    assert "expected column text of type list<" in refusal(corpus_path)


def test_rows_and_utterances_are_counted(corpus_path: Path) -> None:
    table = pq.ParquetFile(corpus_path / "train/part-00000.parquet").read()
    replace_shard(corpus_path, pa.concat_tables([table, table]))
    assert "part-00000.parquet: expected 1 conversation, found 2" in refusal(corpus_path)
    other = table_from_conversations(
        [conversation("a", 5)], task="single-label", modalities=["text", "audio"], has_texts=True
    )
    replace_shard(corpus_path, other)
    assert "part-00000.parquet: expected at most 3 values in utterance_ids, found 5" in refusal(corpus_path)


def test_a_small_file_that_unfolds_to_much_is_refused_before_it_is_decoded(
    corpus_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pq.ParquetFile(corpus_path / "train/part-00000.parquet").read()
    position = table.schema.get_field_index("text")
    many = pa.ListArray.from_arrays([0, 10_000_000], pa.repeat(pa.scalar(1.0, pa.float32()), 10_000_000))
    replace_shard(corpus_path, table.set_column(position, table.schema.field("text"), many), compression="zstd")
    assert (corpus_path / "train/part-00000.parquet").stat().st_size < 20_000
    corpus = open_corpus(str(corpus_path))
    monkeypatch.setattr(pq.ParquetFile, "read", lambda file, **options: pytest.fail("decoded"))
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda file, **options: pytest.fail("decoded"))
    with pytest.raises(CorpusError, match="expected at most 9 values in text, found 10000000"):
        corpus.read_checked(corpus.shards("train")[0])
    with pytest.raises(CorpusError, match="expected at most 9 values in text, found 10000000"):
        next(ShardReader(corpus).batches(corpus.shards("train")[0], columns=[], first=0, at_a_time=1, buffer_bytes=0))


@pytest.mark.parametrize(
    ("column", "cut"), [("speakers", 1), ("labels", 1), ("texts", 1), ("text_present", 1), ("text", 1), ("text", None)]
)
def test_a_list_of_another_length_is_named(corpus_path: Path, column: str, cut: int | None) -> None:
    table = pq.ParquetFile(corpus_path / "train/part-00000.parquet").read()
    (row,) = table.to_pylist()
    row[column] = row[column][:-cut] if cut else []
    replace_shard(corpus_path, pa.Table.from_pylist([row], schema=table.schema))
    message = refusal(corpus_path)
    assert f"values in {column} of conversation a, found {len(row[column])}" in message


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        ("text", float("nan"), "NaN or infinity"),
        ("audio", float("inf"), "NaN or infinity"),
        ("speakers", None, "a null"),
    ],
)
def test_a_value_that_no_importer_writes_is_found(corpus_path: Path, column: str, value: Any, what: str) -> None:
    table = pq.ParquetFile(corpus_path / "train/part-00000.parquet").read()
    (row,) = table.to_pylist()
    row[column] = [*row[column][:-1], value]
    replace_shard(corpus_path, pa.Table.from_pylist([row], schema=table.schema))
    assert f"in {column} of conversation a, found {what}" in refusal(corpus_path)


def test_a_width_that_the_vectors_do_not_have_is_found(corpus_path: Path) -> None:
    change_manifest(corpus_path, lambda content: content["modalities"]["text"].update(width=5))
    assert "expected 15 values in text of conversation a, found" in refusal(corpus_path)


def test_parquet_of_another_writer_is_read(corpus_path: Path) -> None:
    """Files without Arrow's own schema name list items otherwise; the data is the same."""
    table = pq.ParquetFile(corpus_path / "train/part-00000.parquet").read()
    replace_shard(corpus_path, table, store_schema=False, use_compliant_nested_type=False)
    assert_same(next(open_corpus(str(corpus_path)).conversations("train")), conversation("a"))


@pytest.mark.s3
def test_a_corpus_in_a_bucket_is_the_same_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    items = [conversation("a"), with_gaps(), conversation("b", 9)]
    write(str(tmp_path / "c"), {"train": items}, shard_conversations=2)
    local = open_corpus(str(tmp_path / "c"))
    with s3_server() as endpoint:
        make_bucket(endpoint, "corpora")
        uri = f"s3://corpora/deep/c?endpoint_override={endpoint}"
        write(uri, {"train": items}, shard_conversations=2)
        remote: Corpus = open_corpus(uri)
        assert remote.hash == local.hash
        assert remote.read_table("train").equals(local.read_table("train"))
        assert "endpoint_override" in remote.location.join(remote.shards("train")[0].name).uri
        with pytest.raises(CorpusError, match="pass --overwrite"):
            write(uri, {"train": items})
        check_that_it_stays(f"s3://corpora/replaced?endpoint_override={endpoint}")
        remote.location.join("train/part-00001.parquet").remove()
        with pytest.raises(CorpusError, match=r"part-00001\.parquet.*no such file"):
            open_corpus(uri)


def kill_a_write(uri: str, operation: int, **settings: Any) -> bool:
    """Write a corpus in a process of its own that ends before some file operation; whether it came that far."""
    process = os.fork()
    if process == 0:
        left = operation

        def counted(work: Callable[..., Any]) -> Callable[..., Any]:
            def run(*args: Any, **options: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    os._exit(9)
                return work(*args, **options)

            return run

        for name in ("replace", "remove", "fsync", "rmdir", "unlink"):
            setattr(os, name, counted(getattr(os, name)))
        write(uri, {"train": [conversation("new-1"), conversation("new-2")]}, shard_conversations=1, **settings)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 9


def test_a_killed_write_leaves_nothing_that_opens_and_the_same_command_goes_on(tmp_path: Path) -> None:
    operation = 0
    while kill_a_write(uri := str(tmp_path / str(operation)), operation):
        if not Path(uri, "manifest.json").exists():
            with pytest.raises(CorpusError):
                open_corpus(uri)
            write(uri, {"train": [conversation("new-1"), conversation("new-2")]}, shard_conversations=1)
        assert sum(1 for _ in open_corpus(uri).conversations("train")) == 2
        assert not list(Path(uri).rglob("*.unfinished"))
        operation += 1
    assert operation >= 2 * 6, "each of six files is written and renamed"


def test_a_killed_overwrite_leaves_the_old_corpus_or_the_new_one(tmp_path: Path) -> None:
    operation, names = 0, set()
    while True:
        uri = str(tmp_path / str(operation))
        write(uri, {"train": [conversation("old")], "dev": [conversation("d")]})
        killed = kill_a_write(uri, operation, overwrite=True)
        found = tuple(item.conversation_id for item in open_corpus(uri).conversations("train"))
        names.add(found)
        write(uri, {"train": [conversation("last")]}, overwrite=True)
        assert [item.conversation_id for item in open_corpus(uri).conversations("train")] == ["last"]
        assert len(list(Path(uri).rglob("*.*"))) == 5, "nothing of the others is left"
        if not killed:
            break
        operation += 1
    assert names == {("old",), ("new-1", "new-2")}
