"""wakelog in the processes that Celery forks: opened when one begins, closed when it ends.

celery -A examples.embedding.celery_app worker --pool prefork --concurrency 2
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown

from examples.embedding.shop import URL, Placed, jobs, order
from wakelog import BlockingApp

queue = Celery("shop", broker=os.environ.get("SHOP_BROKER", "memory://"))
if "SHOP_BROKER_FOLDER" in os.environ:  # a broker that needs no server: kombu's, over files
    folder = os.environ["SHOP_BROKER_FOLDER"]
    queue.conf.broker_transport_options = {
        "data_folder_in": folder,
        "data_folder_out": folder,
        "control_folder": folder,
        "polling_interval": 0.1,
    }

app: BlockingApp


@worker_process_init.connect
def open_app(**_: Any) -> None:
    """In the forked process, before its first task."""
    global app
    app = jobs.open_blocking(URL, worker=True)


@worker_process_shutdown.connect
def close_app(**_: Any) -> None:
    app.close(grace="5s")


@queue.task
def place(id: str, item: str) -> None:
    """Celery may call a task twice: the event's id makes that one event."""
    app.task(order).send(id, Placed(item=item), event_id=f"place-{id}")
