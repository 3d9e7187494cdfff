"""Packs the working directory of a job into one zip file, without data, tools and keys."""

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

MAX_PACKAGE_BYTES = 100 * 2**20
"""The dashboard of a Ray head accepts this much in one upload."""
MAX_SCANNED_BYTES = 2**20
"""Larger files are not searched for secrets."""
FIRST_ZIP_DATE = (1980, 1, 1, 0, 0, 0)

DATA_FOLDERS = {"runs", "corpora", "data", "joyful-demo"}
"""Excluded at the top level only, because `joyful_ray/corpora` and the like are code."""
TOOL_FOLDERS = {".git", ".venv", "venv", ".ssh", ".aws", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
BYTE_CODE = "__pycache__"
"""Excluded everywhere, and not listed."""
KEY_FILES = GitIgnoreSpec.from_lines([".env", ".env.*", "*.pem", "*.key", ".netrc", ".pypirc", "auth_token", "id_rsa*"])


@dataclass(frozen=True)
class Packing:
    """The files of a working directory that a job receives.

    Attributes:
        folder: the working directory.
        files: path on this machine, by name in the package.
        left_out: the reason, by name, why a file is not packed: `ignored` (.gitignore), `data`, `tools` or `key`.
    """

    folder: Path
    files: dict[str, Path]
    left_out: dict[str, str]

    @property
    def bytes(self) -> int:
        """Size of all files before compression."""
        return sum(path.stat().st_size for path in self.files.values())

    def contains(self, name: str) -> bool:
        """Whether a file, or anything below a folder, is packed."""
        return name in self.files or any(packed.startswith(f"{name}/") for packed in self.files)

    def write(self, place: Path) -> int:
        """Write the zip file; the same files give the same bytes, so a cluster that has them needs no second upload.

        Returns:
            Its size in bytes.

        Raises:
            ConfigError: it is larger than a cluster accepts; the message names the largest files.
        """
        with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as package:
            for name, path in sorted(self.files.items()):
                entry = zipfile.ZipInfo(name, FIRST_ZIP_DATE)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = stat.S_IMODE(path.stat().st_mode) << 16
                package.writestr(entry, path.read_bytes())
        size = place.stat().st_size
        if size > MAX_PACKAGE_BYTES:
            largest = sorted(self.files, key=lambda name: -self.files[name].stat().st_size)[:3]
            raise ConfigError(
                f"the package of {self.folder} has {size:,} bytes, but a cluster accepts at most "
                f"{MAX_PACKAGE_BYTES:,}; add files that the job does not need to .gitignore, such as "
                f"{', '.join(largest)}"
            )
        return size


def pack(folder: Path) -> Packing:
    """Select the files of a job: everything except what .gitignore names, runs, corpora, environments and keys.

    If the folder does not contain the package `joyful_ray`, that of this process is added, so that the job runs the
    code that submitted it.

    Raises:
        ConfigError: the folder does not exist or is far too large, or a file contains a secret of the environment.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder} to send; name one with --working-dir")
    files: dict[str, Path] = {}
    left_out: dict[str, str] = {}
    _collect(folder.resolve(), "", [], files, left_out)
    if "joyful_ray/__init__.py" not in files:
        code = Path(joyful_ray.__file__).parent
        files |= {
            f"joyful_ray/{path.relative_to(code).as_posix()}": path
            for path in sorted(code.rglob("*"))
            if path.is_file() and BYTE_CODE not in path.parts
        }
    packing = Packing(folder.resolve(), files, left_out)
    # Zipped text has about a fifth of its size; a folder far above the limit is refused without compressing it.
    if packing.bytes > 20 * MAX_PACKAGE_BYTES:
        raise ConfigError(
            f"{folder} has {packing.bytes:,} bytes, which is too much to send; add what the job does not need to "
            ".gitignore"
        )
    _refuse_secrets_in_files(packing)
    return packing


def _collect(
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
        reason = _exclusion_reason(path, name, is_folder, specs)
        if reason:
            left_out[name + ("/" if is_folder else "")] = reason
        elif is_folder:
            _collect(path, f"{name}/", specs, files, left_out)
        elif path.is_file():
            files[name] = path


def _exclusion_reason(path: Path, name: str, is_folder: bool, specs: list[tuple[str, GitIgnoreSpec]]) -> str | None:
    if KEY_FILES.match_file(path.name):
        return "key"
    if path.name in TOOL_FOLDERS or (is_folder and ((path / "pyvenv.cfg").is_file() or name.endswith(".egg-info"))):
        return "tools"
    if is_folder and name in DATA_FOLDERS:
        return "data"
    # The .gitignore that is nearest to the file decides, as in git.
    for prefix, spec in reversed(specs):
        include = spec.check_file(name.removeprefix(prefix) + ("/" if is_folder else "")).include
        if include is not None:
            return "ignored" if include else None
    return None


def _refuse_secrets_in_files(packing: Packing) -> None:
    values = {name: value.encode() for name, value in secret_values().items()}
    for file, content in _contents(packing) if values else ():
        for name, value in values.items():
            if value in content:
                raise ConfigError(
                    f"{file} contains the value of {name}; remove the value, or add the file to .gitignore"
                )


def _contents(packing: Packing) -> Iterator[tuple[str, bytes]]:
    for name, path in packing.files.items():
        if path.stat().st_size <= MAX_SCANNED_BYTES:
            yield name, path.read_bytes()
