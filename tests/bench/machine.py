"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import time
from pathlib import Path
from statistics import median

__all__ = ["commit", "describe", "load"]

FSYNCS = 200
PAGE = bytes(4096)
ROOT = Path(__file__).resolve().parents[2]


def describe(folder: Path) -> dict[str, str]:
    """Cores, processor, Python, SQLite, and what it costs to wait for the disk under `folder`."""
    return {
        "cores": str(os.cpu_count()),
        "processor": _processor(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "fsync": f"{fsync_us(folder):.0f} µs (4 KiB appended, median of {FSYNCS})",
        "load": load(),
    }


def load() -> str:
    """How many processes wanted a processor in the last 1, 5 and 15 minutes."""
    return " ".join(f"{each:.2f}" for each in os.getloadavg())


def fsync_us(folder: Path) -> float:
    """Microseconds to append a page and have it on the disk."""
    path = folder / "fsync"
    took: list[float] = []
    with path.open("wb", buffering=0) as file:
        for _ in range(FSYNCS):
            began = time.perf_counter()
            file.write(PAGE)
            os.fsync(file.fileno())
            took.append(time.perf_counter() - began)
    path.unlink()
    return median(took) * 1_000_000


def commit() -> str:
    """The commit that was measured, and whether files were changed since."""
    try:
        named = _git("rev-parse", "--short", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{named}, with changes" if changed else named


def _git(*args: str) -> str:
    done = subprocess.run(["git", *args], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
