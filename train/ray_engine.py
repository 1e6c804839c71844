"""Tasks of a run spread over a Ray cluster."""

from __future__ import annotations

import importlib.util
import multiprocessing
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from edgepain.errors import ClusterError, ConfigError, MissingExtraError
from edgepain.train.ray_driver import Order, Said, drive
from edgepain.train.run import Run, Task
from edgepain.train.workers import TICK_S, Outcome

LOG = "ray.log"
REACH_S = 5.0
# To cancel tasks and, where it is ours, stop the cluster.
GRACE_S = 20.0


@dataclass(frozen=True)
class RayCluster:
    """As many tasks at once as the machines of a cluster have processors for.

    address: HOST:PORT of a cluster that this machine belongs to, `auto` for the one that runs here; without one, a
    cluster is started on this machine for the time of the work, reachable from nowhere else. The run folder must lie
    on a path that all machines share. What Ray has to say is added to `ray.log` there.
    """

    address: str | None = None
    keep_features: bool = False

    def run(self, run: Run, tasks: Sequence[Task], on_tick: Callable[[], None]) -> Iterator[Outcome]:
        """See `Engine.run`.

        Raises ClusterError where the cluster cannot be used or goes away, ConfigError for an address that is none,
        MissingExtraError without Ray. What tasks have done by then is in the run folder.
        """
        if importlib.util.find_spec("ray") is None:
            raise MissingExtraError("ray", "cluster")
        _require_reachable(self.address)
        if not tasks:
            return
        folder = run.folder.resolve()
        pairs = tuple((task.fold, task.method) for task in tasks)
        order = Order(str(folder), pairs, run.threads, self.keep_features, self.address)
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        driver = context.Process(target=drive, args=(msgspec.json.encode(order), theirs, folder / LOG), daemon=True)
        driver.start()
        theirs.close()
        try:
            for _ in tasks:
                while not ours.poll(TICK_S):
                    on_tick()
                said = _said(ours.recv_bytes)
                if said.task is None:
                    raise ClusterError(f"{said.error}; {_go_on(run)}")
                yield Outcome(tasks[said.task], said.error)
                on_tick()
        finally:
            ours.close()
            driver.join(GRACE_S)
            driver.kill()
            driver.join()


def _said(receive: Callable[[], bytes]) -> Said:
    try:
        return msgspec.json.decode(receive(), type=Said)
    except (EOFError, ConnectionError):
        return Said(None, "the Ray cluster went away")


def _go_on(run: Run) -> str:
    return (
        f"what is finished is kept; Ray's reasons are in {run.folder / LOG}; when the cluster is back, or without it, "
        f"go on with: edgepain train --resume {run.folder}"
    )


def _require_reachable(address: str | None) -> None:
    """Ray itself takes minutes to say that there is nothing at an address."""
    if address is None or address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isascii() or not port.isdigit():
        raise ConfigError(f"--address {address} is no HOST:PORT; give that of `ray start --head`, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH_S).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(f"no Ray cluster answers at {address} ({error}); check it with: ray status") from error
