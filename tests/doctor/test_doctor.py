"""`edgepain doctor`: on made-up machines, on this one, and on a simulated device."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgepain.doctor import Check, Host, Status, diagnose
from edgepain.doctor.machine import machine
from edgepain.doctor.ports import ports


class Tree:
    """A made-up machine with an FTDI adapter on ttyUSB0, whose files a test changes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.host = Host(root, may_open=lambda port: True, clock_state=lambda: 0, clocks=lambda: (100.0, 100.0))
        self.port = root / "dev/ttyUSB0"
        self.write("dev/ttyUSB0", "")
        usb = "sys/devices/pci/usb1/1-1"
        self.write(f"{usb}/idVendor", "0403\n")
        self.write(f"{usb}/power/control", "on\n")
        self.write(f"{usb}/power/autosuspend_delay_ms", "2000\n")
        self.write(f"{usb}/1-1:1.0/ttyUSB0/latency_timer", "1\n")
        self.link("sys/class/tty/ttyUSB0/device", f"{usb}/1-1:1.0/ttyUSB0")
        self.link("dev/serial/by-id/usb-FTDI_A1-if00", "dev/ttyUSB0")
        self.write("proc/1/comm", "init\n")
        self.write("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n")

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def link(self, path: str, target: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).symlink_to(self.root / target)

    def found(self, name: str) -> Check:
        """The one check whose name ends like this."""
        checks = [*machine(self.host), *ports(self.host, None)]
        (check,) = (check for check in checks if check.name.endswith(name))
        return check


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_a_machine_that_is_in_order(tree):
    checks = [*machine(tree.host), *ports(tree.host, None)]
    assert {check.status for check in checks} == {Status.OK}, checks
    assert not any(check.todo for check in checks)


def governor(tree: Tree) -> None:
    tree.write("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n")


def clock(tree: Tree) -> None:
    tree.host = replace(tree.host, clock_state=lambda: 5)


def sleep(tree: Tree) -> None:
    tree.host = replace(tree.host, clocks=lambda: (100.0, 220.0))
    tree.write("sys/power/suspend_stats/success", "3\n")


def awake_again(tree: Tree) -> None:
    tree.host = replace(tree.host, clocks=lambda: (1000.0, 4600.0))
    log = "6,1,100000000,-;PM: suspend exit\n6,2,880000000,-;PM: suspend exit\n6,3,881000000,-;usb 1-1: reset\n"
    tree.write("dev/kmsg", log)


def permission(tree: Tree) -> None:
    tree.host = replace(tree.host, may_open=lambda port: False)


def reader(tree: Tree) -> None:
    tree.write("proc/77/comm", "minicom\n")
    tree.link("proc/77/fd/5", "dev/ttyUSB0")


def no_name(tree: Tree) -> None:
    (tree.root / "dev/serial/by-id/usb-FTDI_A1-if00").unlink()


def latency(tree: Tree) -> None:
    tree.write("sys/devices/pci/usb1/1-1/1-1:1.0/ttyUSB0/latency_timer", "16\n")


def autosuspend(tree: Tree) -> None:
    tree.write("sys/devices/pci/usb1/1-1/power/control", "auto\n")


def modem_manager(tree: Tree) -> None:
    tree.write("proc/88/comm", "ModemManager\n")


def brltty(tree: Tree) -> None:
    rule = 'ENV{PRODUCT}=="1a86/7523/*", ENV{BRLTTY_BRAILLE_DRIVER}="bm", GOTO="brltty_usb_run"\n'
    tree.write("usr/lib/udev/rules.d/85-brltty.rules", rule)


def unplugged(tree: Tree) -> None:
    tree.port.unlink()


@pytest.mark.parametrize(
    ("fault", "name", "status", "found", "todo"),
    [
        (governor, "CPU speed", Status.WARNING, "powersave", "scaling_governor"),
        (clock, "system clock", Status.WARNING, "not kept in time", "set-ntp"),
        (
            sleep,
            "sleep",
            Status.WARNING,
            "slept 2.0 min in 3 times since it was started; when is not told",
            "systemd-inhibit",
        ),
        (awake_again, "sleep", Status.WARNING, "slept 60.0 min since it was started; it woke 2 min ago", "inhibit"),
        (permission, "permission", Status.FAILS, "group ", "usermod -aG"),
        (reader, "other programs", Status.FAILS, "open in minicom (pid 77)", "close that"),
        (no_name, "stable name", Status.WARNING, "none in", "99-edgepain.rules"),
        (latency, "FTDI latency", Status.WARNING, "for 16 ms", "latency_timer"),
        (autosuspend, "USB power", Status.WARNING, "after 2000 ms", "power/control"),
        (modem_manager, "ModemManager", Status.WARNING, "as if it were a modem", "disable --now ModemManager"),
        (brltty, "brltty", Status.WARNING, "85-brltty.rules", "apt remove brltty"),
        (unplugged, "ports", Status.WARNING, "no serial port", "rfcomm bind"),
    ],
)
def test_a_fault_is_found_and_explained(
    tree: Tree, fault: Callable[[Tree], None], name: str, status: Status, found: str, todo: str
) -> None:
    fault(tree)
    check = tree.found(name)
    assert check.status is status
    assert found in check.found
    assert todo in check.todo


def test_what_is_told_to_leave_the_port_alone_is_no_trouble(tree):
    modem_manager(tree)
    tree.write("etc/udev/rules.d/99-edgepain.rules", 'SUBSYSTEM=="tty", ENV{ID_MM_DEVICE_IGNORE}="1"\n')
    assert tree.found("ModemManager").status is Status.OK


def test_a_rule_that_was_masked_counts_no_more(tree):
    brltty(tree)
    tree.write("etc/udev/rules.d/85-brltty.rules", "")
    assert tree.found("brltty").status is Status.OK


def test_a_governor_that_speeds_up_under_load_is_no_trouble(tree):
    governor(tree)
    tree.write("sys/devices/system/cpu/cpu0/cpufreq/scaling_driver", "intel_pstate\n")
    assert tree.found("CPU speed").status is Status.OK


def test_what_cannot_be_looked_at_says_why(tree):
    tree.host = replace(tree.host, clock_state=lambda: -1)
    (tree.root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").unlink()
    (tree.root / "sys/devices/pci/usb1/1-1/idVendor").unlink()
    for name in ("system clock", "CPU speed", "USB power"):
        check = tree.found(name)
        assert (check.status, bool(check.found)) == (Status.NOT_CHECKED, True)


def test_a_port_that_is_not_ours_alone_is_not_opened(tree):
    reader(tree)
    last = list(diagnose(str(tree.port), host=tree.host))[-1]
    assert (last.name, last.status) == (f"{tree.port}: device", Status.NOT_CHECKED)


def doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgepain", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_this_machine_can_be_looked_at():
    run = doctor("--json")
    checks = {check["name"]: check for check in json.loads(run.stdout)}
    for name in ("Python", "packages", "ONNX Runtime"):
        assert checks[name]["status"] == "ok"
    assert checks["device"]["status"] == "not checked"
    assert set(checks) >= {"extras", "CPU speed", "disk", "system clock", "sleep", "ModemManager", "brltty"}
    assert all(check["todo"] for check in checks.values() if check["status"] in ("warning", "fails"))
    assert run.returncode == (1 if any(check["status"] == "fails" for check in checks.values()) else 0)


def test_extras_are_whole_where_all_of_them_that_this_python_needs_is_there(tmp_path):
    (tmp_path / "edgepain-9.9.dist-info").mkdir()
    (tmp_path / "edgepain-9.9.dist-info/METADATA").write_text(
        """Metadata-Version: 2.4
Name: edgepain
Version: 9.9
Requires-Dist: numpy>=1.26
Requires-Dist: onnxruntime>=9999
Provides-Extra: train
Requires-Dist: numpy>=1; extra == "train"
Requires-Dist: no-such-package; python_version < "3" and extra == "train"
Provides-Extra: peers
Requires-Dist: edgepain[train]; extra == "peers"
Provides-Extra: lacking
Requires-Dist: no-such-package; extra == "lacking"
Provides-Extra: lacking-within
Requires-Dist: edgepain[lacking]; extra == "lacking-within"
Provides-Extra: old
Requires-Dist: numpy>=9999; extra == "old"
"""
    )
    command = [sys.executable, "-m", "edgepain", "doctor", "--json"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    run = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env=environment, cwd=tmp_path
    )
    checks = {check["name"]: check for check in json.loads(run.stdout)}
    assert checks["extras"]["found"] == "installed: peers, train; not installed: lacking, lacking-within, old"
    assert checks["packages"]["status"] == "fails"
    assert "onnxruntime" in checks["packages"]["found"]
    assert "(needs >=9999)" in checks["packages"]["found"]
    assert "numpy" not in checks["packages"]["found"]


def test_a_device_is_listened_to(simulate):
    with simulate("--loop", "--no-wait") as device:
        run = doctor(device.port, "--seconds", "2", "--json")
    checks = {check["name"].removeprefix(f"{device.port}: "): check for check in json.loads(run.stdout)}
    assert run.returncode == 0, run.stderr
    assert "simulated wearable" in checks["device"]["found"]
    assert "edgeframe at 115200 baud (certain" in checks["device"]["found"]
    assert checks["bvp rate"]["status"] == checks["eda rate"]["status"] == checks["losses"]["status"] == "ok"
    assert "apart" in checks["arrivals"]["found"]


def test_losses_are_seen(simulate):
    with simulate("--loop", "--no-wait", "--drop-frames", "0.2") as device:
        run = doctor(device.port, "--device", "edgeframe", "--seconds", "3", "--json")
    (losses,) = (check for check in json.loads(run.stdout) if check["name"].endswith(": losses"))
    assert losses["status"] == "warning"


def test_a_port_that_is_not_there_fails_with_what_to_do():
    run = doctor("/dev/ttyUSB77")
    assert run.returncode == 1
    assert "fails  /dev/ttyUSB77: port: is not there" in run.stdout
    assert "edgepain ports" in run.stdout
    assert "checks fail" in run.stderr
    assert "Traceback" not in run.stderr
