"""Which files of a working directory are sent with a job."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from joyful_ray.errors import ConfigError
from joyful_ray.submit import packing as packing_module
from joyful_ray.submit.packing import pack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small checkout: code, runs, an environment, a key, and .gitignore files that contradict each other."""
    files = {
        "joyful_ray/__init__.py": "",
        "joyful_ray/corpora/shards.py": "code",
        "joyful_ray/__pycache__/x.pyc": "byte code",
        "jobs/a.yaml": "name: a",
        "corpora/meld/manifest.json": "{}",
        "runs/a/record.json": "{}",
        "env/pyvenv.cfg": "home = /usr",
        "env/lib/torch.so": "large",
        ".git/config": "",
        ".env": "AWS_SECRET_ACCESS_KEY=x",
        "keys/server.pem": "key",
        ".gitignore": "*.log\n/notes/\n",
        "notes/a.txt": "mine",
        "a.log": "log",
        "logs/.gitignore": "!kept.log\n",
        "logs/kept.log": "kept",
        "logs/other.log": "log",
    }
    for name, text in files.items():
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return tmp_path


def test_code_and_jobs_are_packed_and_runs_environments_keys_and_ignored_files_are_not(folder: Path) -> None:
    packing = pack(folder)
    assert set(packing.files) == {
        ".gitignore",
        "jobs/a.yaml",
        "joyful_ray/__init__.py",
        "joyful_ray/corpora/shards.py",
        "logs/.gitignore",
        "logs/kept.log",
    }
    assert packing.left_out == {
        ".env": "key",
        ".git/": "tools",
        "a.log": "ignored",
        "corpora/": "data",
        "env/": "tools",
        "keys/server.pem": "key",
        "logs/other.log": "ignored",
        "notes/": "ignored",
        "runs/": "data",
    }
    assert packing.bytes == sum((folder / name).stat().st_size for name in packing.files)
    assert packing.contains("jobs")
    assert not packing.contains("corpora/meld")


def test_git_agrees_on_what_is_ignored(folder: Path) -> None:
    import shutil
    import subprocess

    if shutil.which("git") is None:
        pytest.skip("no git")
    shutil.rmtree(folder / ".git")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    listed = subprocess.run(
        ["git", "ls-files", "--others", "--exclude-standard"], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.split()
    packing = pack(folder)
    ignored = {name.rstrip("/") for name, reason in packing.left_out.items() if reason == "ignored"}
    assert not {name for name in listed if name.split("/")[0] in ignored or name in ignored}
    assert set(packing.files) <= set(listed)


def test_the_same_files_make_the_same_zip(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    places = [tmp_path_factory.mktemp("zips") / "package.zip" for _ in range(2)]
    sizes = []
    for place in places:
        (folder / "jobs/a.yaml").touch()
        sizes.append(pack(folder).write(place))
    assert places[0].read_bytes() == places[1].read_bytes()
    assert sizes[0] == places[0].stat().st_size
    with zipfile.ZipFile(places[0]) as package:
        assert package.read("jobs/a.yaml") == b"name: a"


def test_a_folder_without_the_package_gets_this_one(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("name: mine")
    packing = pack(tmp_path)
    assert {"job.yaml", "joyful_ray/cli.py", "joyful_ray/presets/joyful.yaml"} <= set(packing.files)
    assert not [name for name in packing.files if "__pycache__" in name]


def test_a_package_that_is_too_large_names_its_largest_files(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "features.npy").write_bytes(bytes(range(256)) * 40)
    monkeypatch.setattr(packing_module, "MAX_PACKAGE_BYTES", 1000)
    with pytest.raises(ConfigError, match=r"accepts at most 1,000; .*features\.npy"):
        pack(folder).write(tmp_path_factory.mktemp("zip") / "package.zip")
    monkeypatch.setattr(packing_module, "MAX_PACKAGE_BYTES", 100)
    with pytest.raises(ConfigError, match="gitignore"):
        pack(folder)


def test_a_file_that_contains_a_secret_of_the_environment_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret-in-a-file")
    (folder / "jobs/b.yaml").write_text("# planted-secret-in-a-file\n")
    with pytest.raises(ConfigError, match=r"jobs/b\.yaml contains the value of AWS_SECRET_ACCESS_KEY") as error:
        pack(folder)
    assert "planted" not in str(error.value)


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--working-dir"):
        pack(tmp_path / "absent")
