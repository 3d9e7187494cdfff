"""What travels with a job: the files of the working directory, as one zip, and what stays at home."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

import joyful_ray
from joyful_ray.errors import ConfigError
from joyful_ray.submit.secrets import secret_values

LARGEST_PACKAGE_BYTES = 100 * 2**20
"""What the dashboard of a Ray head takes in one upload."""
SEARCHED_FOR_SECRETS_BYTES = 2**20
EPOCH_OF_ZIP = (1980, 1, 1, 0, 0, 0)

LEFT_AT_THE_TOP = {"runs", "corpora", "data", "joyful-demo"}
"""What runs make and read; `joyful_ray/corpora` and the like are code."""
LEFT_ANYWHERE = {".git", ".venv", "venv", ".ssh", ".aws", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
BYTE_CODE = "__pycache__"
"""Left out everywhere, without a word."""
KEYS = GitIgnoreSpec.from_lines([".env", ".env.*", "*.pem", "*.key", ".netrc", ".pypirc", "auth_token", "id_rsa*"])


@dataclass(frozen=True)
class Packing:
    """The files of a working directory that a job gets.

    Attributes:
        files: by name in the package, where each lies here.
        left_out: by name, why it stays: `ignored` (.gitignore), `data`, `tools` or `key`.
    """

    folder: Path
    files: dict[str, Path]
    left_out: dict[str, str]

    @property
    def bytes(self) -> int:
        """Bytes of all files, before they are compressed."""
        return sum(path.stat().st_size for path in self.files.values())

    def holds(self, name: str) -> bool:
        """Whether a file, or anything below a folder, travels."""
        return name in self.files or any(known.startswith(f"{name}/") for known in self.files)

    def write(self, place: Path) -> int:
        """Write the zip; the same files give the same bytes, so that a cluster that has it is not sent it again.

        Returns:
            Its bytes.

        Raises:
            ConfigError: it is larger than a cluster takes; the largest files are named.
        """
        with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as package:
            for name, path in sorted(self.files.items()):
                entry = zipfile.ZipInfo(name, EPOCH_OF_ZIP)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = stat.S_IMODE(path.stat().st_mode) << 16
                package.writestr(entry, path.read_bytes())
        size = place.stat().st_size
        if size > LARGEST_PACKAGE_BYTES:
            largest = sorted(self.files, key=lambda name: -self.files[name].stat().st_size)[:3]
            raise ConfigError(
                f"the package of {self.folder} has {size:,} bytes, a cluster takes {LARGEST_PACKAGE_BYTES:,}; name in "
                f".gitignore what the job does not need, such as {', '.join(largest)}"
            )
        return size


def pack(folder: Path) -> Packing:
    """Choose what travels: all files but those that .gitignore names, runs, corpora, environments and keys.

    The package `joyful_ray` of this process is added where the folder holds none, so that a job runs the code that
    sent it.

    Raises:
        ConfigError: there is no such folder, it is far too large, or a file holds a secret of the environment.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder} to send; name one with --working-dir")
    files: dict[str, Path] = {}
    left_out: dict[str, str] = {}
    _choose(folder.resolve(), "", [], files, left_out)
    if "joyful_ray/__init__.py" not in files:
        code = Path(joyful_ray.__file__).parent
        files |= {
            f"joyful_ray/{path.relative_to(code).as_posix()}": path
            for path in sorted(code.rglob("*"))
            if path.is_file() and BYTE_CODE not in path.parts
        }
    packing = Packing(folder.resolve(), files, left_out)
    # A zip of text has a fifth of its bytes; what is far above the limit need not be compressed to know.
    if packing.bytes > 20 * LARGEST_PACKAGE_BYTES:
        raise ConfigError(f"{folder} holds {packing.bytes:,} bytes; name what the job does not need in .gitignore")
    _refuse_secrets(packing)
    return packing


def _choose(
    folder: Path,
    prefix: str,
    specs: list[tuple[str, GitIgnoreSpec]],
    files: dict[str, Path],
    left_out: dict[str, str],
) -> None:
    ignore = folder / ".gitignore"
    if ignore.is_file():
        specs = [*specs, (prefix, GitIgnoreSpec.from_lines(ignore.read_text(errors="replace").splitlines()))]
    for path in sorted(folder.iterdir()):
        if path.name == BYTE_CODE:
            continue
        name = prefix + path.name
        is_folder = path.is_dir() and not path.is_symlink()
        reason = _reason_to_leave(path, name, is_folder, specs)
        if reason:
            left_out[name + ("/" if is_folder else "")] = reason
        elif is_folder:
            _choose(path, f"{name}/", specs, files, left_out)
        elif path.is_file():
            files[name] = path


def _reason_to_leave(path: Path, name: str, is_folder: bool, specs: list[tuple[str, GitIgnoreSpec]]) -> str | None:
    if KEYS.match_file(path.name):
        return "key"
    if path.name in LEFT_ANYWHERE or (is_folder and ((path / "pyvenv.cfg").is_file() or name.endswith(".egg-info"))):
        return "tools"
    if is_folder and name in LEFT_AT_THE_TOP:
        return "data"
    # The .gitignore nearest to the file has the last word, as in git.
    for prefix, spec in reversed(specs):
        include = spec.check_file(name.removeprefix(prefix) + ("/" if is_folder else "")).include
        if include is not None:
            return "ignored" if include else None
    return None


def _refuse_secrets(packing: Packing) -> None:
    values = {name: value.encode() for name, value in secret_values().items()}
    for file, content in _contents(packing) if values else ():
        for name, value in values.items():
            if value in content:
                raise ConfigError(f"{file} holds the value of {name}; take it out, or name the file in .gitignore")


def _contents(packing: Packing) -> Iterator[tuple[str, bytes]]:
    for name, path in packing.files.items():
        if path.stat().st_size <= SEARCHED_FOR_SECRETS_BYTES:
            yield name, path.read_bytes()
