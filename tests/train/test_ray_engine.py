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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from edgepain.errors import ClusterError, ConfigError
from edgepain.train.create import Plan, create_run
from edgepain.train.ray_engine import RayCluster
from edgepain.train.results import write_results
from edgepain.train.run import Run

pytest.importorskip("ray")

# Seconds after which a lost cluster is given up, instead of Ray's minute.
GIVE_UP = {"RAY_gcs_rpc_server_reconnect_timeout_s": "3"}
# For the machines of a cluster and for whoever uses it.
CLUSTER = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Listen on the loopback address only.
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": uuid.uuid4().hex,
}


def ray_start(*arguments: str, prefix: tuple[str, ...] = (), **environment: str) -> subprocess.Popen[bytes]:
    """`ray start` in a process group of its own."""
    program = [sys.executable, "-m", "ray.scripts.scripts", "start", *arguments, "--block", "--disable-usage-stats"]
    return subprocess.Popen(
        [*prefix, *program],
        env={**os.environ, **CLUSTER, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


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


def kill_all(pid: int) -> None:
    for child in [pid, *descendants(pid)]:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def wait_until(holds: Callable[[], Any], seconds: float = 60) -> Any:
    deadline_s = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    return value


@contextmanager
def machine(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A machine of a cluster; all of its processes are killed at the end."""
    process = ray_start(*arguments, **options)
    try:
        yield process
    finally:
        kill_all(process.pid)
        process.wait()


@pytest.fixture(scope="module")
def head() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A cluster of one machine with two processors: its address and main process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CLUSTER.items():
            patch.setenv(name, value)
        options = ("--head", f"--port={port}", "--num-cpus=2", "--include-dashboard=false")
        with machine(*options, **GIVE_UP) as process:
            wait_until(lambda: "raylet" in descendants(process.pid).values())
            wait_until(lambda: any(name.startswith("ray::") for name in descendants(process.pid).values()))
            yield f"127.0.0.1:{port}", process


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


def test_machines_that_do_not_fit_are_named(head: tuple[str, Any], loso_plan: Plan, tmp_path: Path) -> None:
    run, _ = create_run(tmp_path / "run", loso_plan)
    other = tmp_path / "other" / "edgepain-9.9.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: edgepain\nVersion: 9.9\n")
    without = tmp_path / "without"
    without.mkdir()
    (without / "sitecustomize.py").write_text("import sys\nsys.modules['edgepain'] = None\n")
    wrong = {
        "edgepain is 9.9, not 0.1.0; install the same version there": {"PYTHONPATH": f"{other.parent}"},
        r"edgepain cannot be imported \(.*\); install edgepain 0.1.0 there, as here": {"PYTHONPATH": f"{without}"},
    }
    unshare = ("unshare", "--mount", "--", "sh", "-c", f'mount -t tmpfs none {tmp_path} && exec "$@"', "sh")
    if not subprocess.run([*unshare, "true"], capture_output=True).returncode:
        wrong["is not the same folder there; put the run on a path that every machine shares"] = {"prefix": unshare}
    with ExitStack() as machines:
        for options in wrong.values():
            machines.enter_context(machine(f"--address={head[0]}", "--num-cpus=2", **options))
        wait_until(lambda: machines_of(head[0]) == 1 + len(wrong))
        with pytest.raises(ClusterError) as error_info:
            next(RayCluster(head[0]).run(run, run.tasks(), lambda: None))
    text = str(error_info.value)
    assert "\n" not in text
    assert text.count("cannot work on the run: ") == len(wrong)
    for message in wrong:
        assert re.search(message, text)
    assert not list(run.folder.glob("folds/*"))
    wait_until(lambda: machines_of(head[0]) == 1)


def machines_of(address: str) -> int:
    script = (
        "import ray, sys; ray.init(sys.argv[1], log_to_driver=False, logging_level='ERROR'); "
        "print(sum(node['Alive'] for node in ray.nodes()))"
    )
    done = subprocess.run([sys.executable, "-c", script, address], capture_output=True, text=True, timeout=60)
    return int(done.stdout.split()[-1]) if done.returncode == 0 else 0


def test_a_cluster_that_goes_away_is_one_line_and_loses_nothing(
    head: tuple[str, subprocess.Popen[bytes]],
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
        kill_all(process.pid)
        _, err = command.communicate(timeout=120)
    assert command.returncode == 1
    *done, line = err.splitlines()
    assert len(done) == 5
    assert re.fullmatch(
        r"error: the Ray cluster went away.*; what is finished is kept; .*; "
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


def test_a_cluster_of_the_command_is_private_and_ends_with_it(
    training: Callable[..., Any],
    loso_plan: Plan,
    loso_run: Run,
    tmp_path: Path,
    block: Callable[..., Any],
    alive: Callable[[int], bool],
    left_behind: Callable[[Path], dict[str, Any]],
) -> None:
    run, _ = create_run(tmp_path / "run", loso_plan)
    blocked = block(run, "seed0-fold00", "fcn.bvp")
    arguments = ("--resume", run.folder, "--engine", "ray")
    with training(*arguments) as command:
        worker = blocked.wait(command)
        processes = descendants(command.pid)
        assert worker in processes
        assert "gcs_server" in processes.values()
        found = listening(set(processes))
        assert found
        assert found <= LOOPBACK
        blocked.remove()
        command.send_signal(signal.SIGINT)
        _, err = command.communicate(timeout=120)
    assert command.returncode == 130
    assert err.endswith(f"stopped; go on with: edgepain train --resume {run.folder}\ninterrupted\n")
    wait_until(lambda: not any(map(alive, processes)))

    with training(*arguments) as command:
        out, err = command.communicate(timeout=120)
    assert command.returncode == 0, err
    # Ray itself says nothing here.
    assert all(re.fullmatch(r"seed0-fold0\d/(crossmod|svm) done \(\d of \d\)", line) for line in err.splitlines())
    assert "ray" not in out.lower().replace("edgepain train", "")
    assert left_behind(run.folder) == left_behind(loso_run.folder)


def test_a_killed_command_leaves_no_cluster(
    training: Callable[..., Any],
    loso_plan: Plan,
    tmp_path: Path,
    block: Callable[..., Any],
    alive: Callable[[int], bool],
) -> None:
    run, _ = create_run(tmp_path / "run", loso_plan)
    blocked = block(run, "seed0-fold00", "fcn.eda")
    with training("--resume", run.folder, "--engine", "ray") as command:
        blocked.wait(command)
        processes = descendants(command.pid)
        command.kill()
        command.communicate(timeout=60)
    wait_until(lambda: not any(map(alive, processes)))


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
