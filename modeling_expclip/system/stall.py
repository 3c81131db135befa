"""A run on Ray that does not go on says what it waits for: actors that start, or processors that others hold."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .terminal import reason_of

PATIENCE = 60.0  # seconds without a finished part before the first line; twice as long before each further one


@contextmanager
def explained(ray: Any, worker: str) -> Iterator[Callable[[], None]]:
    """Gives a function to be called with each part that is finished. While none is, stderr is told every so often how many of the
    job's actors of class `worker` work, start or wait for a place, and what of the cluster is free."""
    went_on, over = threading.Event(), threading.Event()

    def watch() -> None:
        patience = silence = PATIENCE
        while True:
            if went_on.wait(patience):
                if over.is_set():
                    return
                went_on.clear()
                patience = silence = PATIENCE
                continue
            try:
                seen = _seen(ray, worker)
            except Exception as error:  # whatever Ray raises where its services are gone: it ends no run that goes on
                seen = f"Ray does not say why: {reason_of(error)}"
            print(f"no part was finished in {silence:g} s; {seen}", file=sys.stderr)
            patience = silence  # the next line after twice the silence
            silence *= 2

    watcher = threading.Thread(target=watch, name="stall", daemon=True)
    watcher.start()
    try:
        yield went_on.set
    finally:
        over.set()
        went_on.set()
        watcher.join(5)  # it may be asking a cluster that is gone


def _seen(ray: Any, worker: str) -> str:
    # The public list of actors asks the dashboard, which a cluster of one's own does without.
    from ray._private.state import actors

    job = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
    found = [actor for actor in actors(job_id=job).values() if worker in actor["ActorClassName"]]
    count = Counter(_stage(actor) for actor in found)
    free, total = ray.available_resources(), ray.cluster_resources()
    units = [f"{free.get(unit, 0):g} of {total[unit]:g} {unit}s" for unit in ("CPU", "GPU") if total.get(unit)]
    return (
        f"of its actors {count['working']} work, {count['starting']} are starting and {count['waiting']} wait for a place; "
        f"free in the cluster: {', '.join(units)}"
    )


def _stage(actor: dict[str, Any]) -> str:
    if actor["State"] in ("ALIVE", "DEAD"):
        return "working" if actor["State"] == "ALIVE" else "gone"
    return "starting" if actor["Pid"] else "waiting"  # one with a process has its place
