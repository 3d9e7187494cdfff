"""How much memory this machine has."""

from __future__ import annotations

from pathlib import Path


def memory_bytes() -> tuple[int | None, int | None]:
    """The total and the free memory of this machine, or of the container if its limit is lower; None if unknown."""
    lines = [line.split() for line in read_if_readable("/proc/meminfo").splitlines()]
    sizes = {parts[0].rstrip(":"): int(parts[1]) * 1024 for parts in lines if len(parts) >= 2 and parts[1].isdigit()}
    total, available = sizes.get("MemTotal"), sizes.get("MemAvailable")
    limit = read_if_readable("/sys/fs/cgroup/memory.max").strip()
    used = read_if_readable("/sys/fs/cgroup/memory.current").strip()
    if total is not None and available is not None and limit.isdigit() and used.isdigit() and int(limit) < total:
        return int(limit), min(available, int(limit) - int(used))
    return total, available


def read_if_readable(path: str | Path) -> str:
    """The text of a file, or an empty string if it cannot be read."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""
