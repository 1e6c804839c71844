"""The process that talks to a Ray cluster.

It is one of its own because Ray ends the process that uses it when the cluster is gone, and writes into its output.
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec

from edgepain.errors import ClusterError
from edgepain.train import ray_machine
from edgepain.train.workers import ATTEMPTS, TICK_S

CHECK_S = 5.0
MACHINE_S = 120.0
# All that a run's numbers depend on.
PACKAGES = ("edgepain", "numpy", "torch", "scikit-learn", "safetensors")
# Only paths and words travel through Ray.
OBJECT_STORE_BYTES = 100 * 2**20


class Order(msgspec.Struct, frozen=True):
    """What is to be done. folder: of the run, absolute. tasks: fold and method of each."""

    folder: str
    tasks: tuple[tuple[str, str], ...]
    threads: int
    keep_features: bool
    address: str | None


class Said(msgspec.Struct, frozen=True):
    """What became of a task, by its number; without a number, why none of them can go on."""

    task: int | None
    error: str


def drive(order_json: bytes, pipe: Connection, log: Path) -> None:
    """Carry the tasks out and tell `pipe` of each; stop when its other end is closed. Ray's own words go to `log`."""
    # Ctrl-C goes to every process of the terminal; this one is ended by its parent.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with log.open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    order = msgspec.json.decode(order_json, type=Order)
    # Ray lets workers import from the folder that it is used in.
    os.chdir(order.folder)
    try:
        with _connected(order.address), _token(Path(order.folder)) as token:
            for said in _results(order, token, pipe):
                pipe.send_bytes(msgspec.json.encode(said))
    except ClusterError as error:
        pipe.send_bytes(msgspec.json.encode(Said(None, str(error))))
    except BrokenPipeError:
        pass  # Nobody is waiting any more.


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    options: dict[str, Any] = {}
    if address is None:
        # Despite its name, the first makes a cluster on Linux listen on the loopback address alone. Without the token,
        # Ray would write one into the home folder, and later clusters there would ask for it.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex}
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        options = {"num_cpus": cores, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    import ray

    ray.cloudpickle.register_pickle_by_value(ray_machine)  # type: ignore[no-untyped-call]
    try:
        ray.init(address=address or "local", log_to_driver=False, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        token = "; if it asks for a token, set RAY_AUTH_MODE=token here too" if address else ""
        raise ClusterError(
            f"no Ray cluster can be used at {address or 'this machine'} ({_line(error)}){token}"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _token(folder: Path) -> Iterator[str]:
    path = folder / f".cluster-{uuid.uuid4().hex}"
    path.touch()
    try:
        yield path.name
    finally:
        path.unlink(missing_ok=True)


def _results(order: Order, token: str, pipe: Connection) -> Iterator[Said]:
    import ray

    shared = (order.folder, token, {name: version(name) for name in PACKAGES})
    processors = min(order.threads, max((_processors(node) for node in _machines()), default=0))
    _require_machines(processors, *shared)
    remote = ray.remote(ray_machine.carry_out).options(num_cpus=processors, max_retries=ATTEMPTS - 1)
    running = {
        remote.remote(*shared, fold, method, order.threads, order.keep_features): index
        for index, (fold, method) in enumerate(order.tasks)
    }
    checked_s = time.monotonic()
    try:
        while running and not pipe.poll():
            ready, _ = ray.wait(list(running), timeout=TICK_S)
            for each in ready:
                yield Said(running.pop(each), _received(each))
            if time.monotonic() - checked_s > CHECK_S:
                _require_processors(processors)
                checked_s = time.monotonic()
    finally:
        for each in running:
            ray.cancel(each, force=True)


def _received(task: Any) -> str:
    import ray

    try:
        return str(ray.get(task))
    except ray.exceptions.LocalRayletDiedError as error:
        raise ClusterError("the Ray cluster went away: Ray has ended on this machine") from error
    except ray.exceptions.RayError as error:
        return f"its process was lost {ATTEMPTS} times ({_line(error)})"


def _machines() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _processors(node: dict[str, Any]) -> int:
    return int(node["Resources"].get("CPU", 0))


def _require_processors(processors: int) -> list[dict[str, Any]]:
    """The machines that tasks can be given to."""
    machines = [node for node in _machines() if _processors(node) >= max(1, processors)]
    if not machines:
        raise ClusterError(f"no machine of the Ray cluster has {max(1, processors)} processors for a task")
    return machines


def _require_machines(processors: int, folder: str, token: str, versions: dict[str, str]) -> None:
    """Raise ClusterError where machines that may be given tasks lack something for them."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    asked = {}
    for node in _require_processors(processors):
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        look = ray.remote(ray_machine.problem).options(num_cpus=0, scheduling_strategy=there)
        asked[f"{node['NodeManagerHostname']} ({node['NodeName']})"] = look.remote(folder, token, versions)
    wrong = {}
    for name, answer in asked.items():
        try:
            wrong[name] = ray.get(answer, timeout=MACHINE_S)
        except ray.exceptions.RayError as error:
            wrong[name] = f"it does not answer ({_line(error)})"
    if reasons := [f"machine {name} cannot work on the run: {reason}" for name, reason in wrong.items() if reason]:
        raise ClusterError("; ".join(reasons))


def _line(error: BaseException) -> str:
    """The first line of a message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
