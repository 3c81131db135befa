"""Ray, from the extra `ray`: the cluster that RAY_ADDRESS names, or one of this machine for the length of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .terminal import reason_of

_OBJECTS = (
    128 * 2**20
)  # bytes of shared memory: what is passed on are names and counts, and images stay where they are read


@contextmanager
def connected() -> Iterator[Any]:
    """Gives the module `ray`, connected. What a task raised is raised as itself.

    A cluster of its own counts no usage, shows no dashboard, works at this process's priority and ends with it; one that this
    process is connected to already is used and stays.

    Raises:
        ImportError: without Ray, OSError where the cluster cannot be reached.
    """
    own = "RAY_ADDRESS" not in os.environ
    if own:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray is imported, and by what it starts
        # Ray's default is 15, for the sake of its own services: whatever else the machine does, a test run beside this one for one,
        # may leave an actor a thirtieth of a processor, and minutes pass before it has as much as imported torch.
        os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        import ray
    except ImportError as error:
        raise ImportError('Ray is not installed; it comes with the extra ray: pip install "expclip[ray]"') from error

    begun = not ray.is_initialized()
    if begun:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "warning"}
        if own:
            # Its services listen on this machine only.
            options |= {"include_dashboard": False, "object_store_memory": _OBJECTS, "_node_ip_address": "127.0.0.1"}
        try:
            ray.init(address="local" if own else None, **options)
        except Exception as error:  # a bare one where its services do not come up within 30 seconds
            where = "on this machine" if own else f"at RAY_ADDRESS={os.environ['RAY_ADDRESS']}"
            raise OSError(f"Ray cannot be started {where}: {error}") from error
    try:
        yield ray
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, (ValueError, OSError, ImportError)):
            raise cause from error
        raise OSError(f"Ray stopped the run: {reason_of(error)}") from error
    finally:
        if begun:
            ray.shutdown()
