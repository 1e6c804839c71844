"""Runs on Ray clusters of this machine: the same results, workers and clusters that die, machines that do not fit."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from edgepain.errors import ClusterError, ConfigError
from edgepain.train.create import Plan, create_run
from edgepain.train.ray_engine import RayCluster
from edgepain.train.results import write_results
from edgepain.train.run import Run

pytest.importorskip("ray")
# A cluster needs a dozen processes, which a busy machine is slow to start.
pytestmark = pytest.mark.timeout(600)

# Seconds after which a lost cluster is given up, instead of Ray's minute.
GIVE_UP = {"RAY_gcs_rpc_server_reconnect_timeout_s": "3"}
# For the machines of a cluster and for whoever uses it.
CLUSTER = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex}
HEAD_IP, OTHER_IP = "127.0.0.2", "127.0.0.3"


def descendants(pid: int) -> dict[int, str]:
    """Names of all processes below one."""
    children: dict[int, list[tuple[int, str]]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, _, rest = path.read_text().partition(" (")
        except OSError:
            continue
        name, _, fields = rest.rpartition(") ")
        if fields[0] != "Z":
            children.setdefault(int(fields.split()[1]), []).append((int(number), name))
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        for child, name in children.get(waiting.pop(), []):
            found[child] = name
            waiting.append(child)
    return found


def kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def wait_until(holds: Callable[[], Any], seconds: float = 240) -> Any:
    deadline_s = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    return value


@contextmanager
def machine(*arguments: str, prefix: tuple[str, ...] = (), **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A machine of a cluster, which leaves it at the end."""
    program = [sys.executable, "-m", "ray.scripts.scripts", "start", *arguments, "--num-cpus=2", "--block"]
    program += ["--disable-usage-stats"] + ["--include-dashboard=false"] * ("--head" in arguments)
    process = subprocess.Popen(
        [*prefix, *program],
        env={**os.environ, **CLUSTER, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "Ray runtime started" in line:
                break
        assert process.poll() is None, said
        yield process
    finally:
        below = descendants(process.pid)
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=30)
        process.kill()
        kill(below)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture(scope="module")
def head() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A cluster of one machine with two processors: its address and main process."""
    with socket.create_server((HEAD_IP, 0)) as free:
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CLUSTER.items():
            patch.setenv(name, value)
        with machine("--head", f"--node-ip-address={HEAD_IP}", f"--port={port}", **GIVE_UP) as process:
            yield f"{HEAD_IP}:{port}", process


def test_a_cluster_leaves_what_one_process_leaves_though_a_worker_is_killed(
    head: tuple[str, Any],
    loso_plan: Plan,
    loso_run: Run,
    tmp_path: Path,
    block: Callable[..., Any],
    left_behind: Callable[[Path], dict[str, Any]],
) -> None:
    run, _ = create_run(tmp_path / "run", loso_plan)
    blocked = block(run, "seed0-fold01", "alstm.eda")
    before = blocked.stage.parent / "fcn.eda" / "state.safetensors"
    written: list[int] = []

    def kill_once() -> None:
        if not written and (worker := blocked.worker):
            written.append(before.stat().st_ino)
            blocked.remove()
            os.kill(worker, signal.SIGKILL)

    outcomes = list(RayCluster(head[0]).run(run, run.tasks(), kill_once))
    assert {outcome.task: outcome.error for outcome in outcomes} == dict.fromkeys(run.tasks(), "")
    assert written == [before.stat().st_ino]  # The stage before was not trained again.
    write_results(run)
    assert left_behind(run.folder) == left_behind(loso_run.folder)
    assert not list(run.folder.glob(".cluster-*"))


def test_a_machine_that_does_not_fit_is_named(head: tuple[str, Any], loso_plan: Plan, tmp_path: Path) -> None:
    run, _ = create_run(tmp_path / "runs" / "run", loso_plan)
    path = tmp_path / "python"
    path.mkdir()
    # A machine that sees another folder in the place of the run's.
    elsewhere = ("unshare", "--mount", "--", "sh", "-c", f'mount -t tmpfs none {tmp_path}/runs && exec "$@"', "sh")
    may = subprocess.run([*elsewhere, "true"], capture_output=True).returncode == 0

    def refused() -> str:
        with pytest.raises(ClusterError) as error_info:
            next(RayCluster(head[0]).run(run, run.tasks(), lambda: None))
        text = str(error_info.value)
        assert re.match(rf"machine \S+ \({OTHER_IP}\) cannot work on the run: [^\n]+$", text)
        assert HEAD_IP not in text  # That machine is fine.
        return text

    options = (f"--address={head[0]}", f"--node-ip-address={OTHER_IP}")
    with machine(*options, prefix=elsewhere if may else (), PYTHONPATH=f"{path}"):
        (path / "edgepain-9.9.dist-info").mkdir()
        (path / "edgepain-9.9.dist-info" / "METADATA").write_text("Name: edgepain\nVersion: 9.9\n")
        assert f"edgepain is 9.9, not {version('edgepain')}; install the same version there" in refused()
        shutil.rmtree(path / "edgepain-9.9.dist-info")
        (path / "sitecustomize.py").write_text("import sys\nsys.modules['edgepain'] = None\n")
        assert re.search(r"edgepain cannot be imported \(.*\); install edgepain \S+ there, as here", refused())
        if may:
            (path / "sitecustomize.py").unlink()
            assert "is not the same folder there; put the run on a path that every machine shares" in refused()
    assert not list(run.folder.glob("folds/*"))


def test_a_cluster_that_goes_away_is_one_line_and_loses_nothing(
    head: tuple[str, subprocess.Popen[str]],
    training: Callable[..., Any],
    edgepain: Callable[..., Any],
    loso_plan: Plan,
    loso_run: Run,
    tmp_path: Path,
    block: Callable[..., Any],
    left_behind: Callable[[Path], dict[str, Any]],
) -> None:
    address, process = head
    run, _ = create_run(tmp_path / "run", loso_plan)
    blocked = block(run, "seed0-fold02", "alstm.bvp")
    arguments = ("--resume", run.folder, "--engine", "ray", "--address", address)
    with training(*arguments, env=GIVE_UP) as command:
        blocked.wait(command)
        wait_until(lambda: len(run.unfinished()) == 1)
        kill([process.pid, *descendants(process.pid)])
        _, err = command.communicate(timeout=240)
    assert command.returncode == 1
    *done, line = err.splitlines()
    assert len(done) == 5
    assert re.fullmatch(
        r"error: the Ray cluster went away.*; what is finished is kept; .*, "
        rf"go on with: edgepain train --resume {run.folder}",
        line,
    )
    wait_until(lambda: blocked.worker is None)
    blocked.remove()
    answer = edgepain("train", "--resume", run.folder)
    assert answer.code == 0
    assert "transformer.eda" not in answer.err
    assert left_behind(run.folder) == left_behind(loso_run.folder)


def listening(pids: set[int]) -> set[str]:
    """Addresses, as the kernel writes them, that these processes listen on."""
    inodes = set()
    for pid in pids:
        for path in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inodes.add(os.readlink(path))
            except OSError:
                continue
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1].rpartition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes}


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_a_cluster_of_the_command_is_private_and_ends_with_it(
    training: Callable[..., Any],
    loso_plan: Plan,
    tmp_path: Path,
    block: Callable[..., Any],
    alive: Callable[[int], bool],
    by: signal.Signals,
) -> None:
    run, _ = create_run(tmp_path / "run", loso_plan)
    blocked = block(run, "seed0-fold00", "fcn.bvp")
    with training("--resume", run.folder, "--engine", "ray") as command:
        worker = blocked.wait(command)
        processes = descendants(command.pid)
        assert worker in processes
        assert "gcs_server" in processes.values()
        found = listening(set(processes))
        assert found
        assert found <= LOOPBACK
        command.send_signal(by)
        _, err = command.communicate(timeout=240)
    if by == signal.SIGINT:
        assert command.returncode == 130
        assert err.endswith(f"stopped; go on with: edgepain train --resume {run.folder}\ninterrupted\n")
    # Ray itself says nothing here.
    told = [line for line in err.splitlines() if line and not line.startswith(("stopped", "interrupted"))]
    assert all(
        re.fullmatch(r"seed0-fold0\d/(crossmod|svm) done \(\d of 6(, [\d:]+ left in all)?\)", line) for line in told
    )
    wait_until(lambda: not any(map(alive, processes)))
    blocked.remove()


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("nowhere", ConfigError, r"--address nowhere is no HOST:PORT; give that of `ray start --head`, or auto"),
        ("ray://127.0.0.1:10001", ConfigError, "is no HOST:PORT"),
        (
            "127.0.0.1:1",
            ClusterError,
            r"no Ray cluster answers at 127.0.0.1:1 \(.*refused\); check it with: ray status",
        ),
    ],
)
def test_an_address_without_a_cluster(
    edgepain: Callable[..., Any], loso_run: Run, tmp_path: Path, address: str, error: Any, message: str
) -> None:
    run = shutil.copytree(loso_run.folder, tmp_path / "run")
    answer = edgepain("train", "--resume", run, "--engine", "ray", "--address", address)
    assert answer.code == error.exit_code
    (line,) = answer.err.splitlines()
    assert re.search(message, line)


def test_an_address_is_for_ray(edgepain: Callable[..., Any], loso_run: Run, tmp_path: Path) -> None:
    run = shutil.copytree(loso_run.folder, tmp_path / "run")
    answer = edgepain("train", "--resume", run, "--address", "auto")
    assert answer.code == 2
    assert answer.err.endswith("Error: --address is for --engine ray\n")
