"""wakelog in processes of `multiprocessing`: each opens its own app, in the initializer.

python -m examples.embedding.processes fork     (or: spawn, forkserver)
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.util import Finalize

from examples.embedding.shop import URL, Placed, jobs, order
from wakelog import BlockingApp

app: BlockingApp


def open_app() -> None:
    """In the new process. `atexit` is not called there; `Finalize` is."""
    global app
    app = jobs.open_blocking(URL)
    Finalize(app, app.close, exitpriority=10)


def place(id: str) -> int:
    app.task(order).send(id, Placed(item="tea"))
    return os.getpid()


def main(method: str) -> None:
    processes = multiprocessing.get_context(method)
    ids = [f"o-{number}" for number in range(20)]
    with ProcessPoolExecutor(2, processes, initializer=open_app) as pool:
        pids = set(pool.map(place, ids))
    with jobs.open(URL) as look:  # after the fork: this one is not inherited
        print(f"{look.count(name='order')} orders, placed by others: {os.getpid() not in pids}")


if __name__ == "__main__":
    main(*sys.argv[1:])
