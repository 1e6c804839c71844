"""`edgepain ports` as a process, and the guess at what is plugged in."""

import json
import os
import subprocess
import sys

import pytest
from serial.tools import list_ports

from edgepain.firmware_bridge.serial_ports import SerialPort, describe, guess_device, stable_names


def ports(*arguments: str) -> str:
    command = [sys.executable, "-m", "edgepain", "ports", *arguments]
    shown = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (shown.returncode, shown.stderr) == (0, "")
    return shown.stdout


def test_it_lists_the_ports_of_this_machine_or_says_that_there_is_none():
    listed = json.loads(ports("--json"))
    there = {port.device for port in list_ports.comports()}
    assert {port["device"] for port in listed} == there
    text = ports()
    for port in listed:
        assert set(port) == {"name", "device", "usb_id", "description", "guess", "permitted", "speaks"}
        assert port["name"] in text
        assert port["guess"] in text
        assert port["permitted"] == os.access(port["device"], os.R_OK | os.W_OK)
    assert ("is the device plugged in" in text) == (not there)


@pytest.mark.parametrize(
    ("device", "vid", "pid", "description", "guess"),
    [
        ("/dev/ttyACM0", 0x2341, 0x0043, "Arduino Uno", "Arduino"),
        ("/dev/ttyUSB0", 0x1A86, 0x7523, "USB Serial", "WCH (CH340) USB-UART bridge"),
        ("/dev/ttyUSB0", 0x0403, 0x6001, "FT232R USB UART", "FTDI USB-UART bridge"),
        ("/dev/ttyUSB0", 0x0403, 0x6015, "PLUX BITalino", "BITalino"),
        ("/dev/ttyUSB0", 0x0403, 0x6010, "Shimmer Dock", "Shimmer dock"),
        ("/dev/ttyUSB0", 0x10C4, 0xEA60, "CP2104", "CP210x"),
        ("/dev/ttyUSB0", 0x10C4, 0x0001, "", "unknown"),
        ("/dev/ttyACM0", 0x303A, 0x1001, "USB JTAG/serial debug unit", "ESP32"),
        ("/dev/ttyACM0", 0x239A, 0x800B, "Feather M0", "Adafruit board; an EmotiBit"),
        ("/dev/ttyACM0", 0x1234, 0x5678, "a toaster", "unknown"),
        ("/dev/rfcomm0", None, None, "", "Bluetooth: a BITalino or a Shimmer3"),
        ("/dev/ttyAMA0", None, None, "", "UART of this machine"),
        ("/dev/ttyXR0", None, None, "", "unknown"),
    ],
)
def test_what_is_plugged_in_is_guessed(device, vid, pid, description, guess):
    assert guess_device(device, vid, pid, description).startswith(guess)


def test_what_to_check_is_said_where_there_is_no_port_or_no_permission():
    assert "is the device plugged in" in describe([])
    name = "/dev/serial/by-id/usb-Arduino_Uno-if00"
    port = SerialPort(name, "/dev/ttyACM0", "2341:0043", "Arduino\x1b[2J \nUno", "Arduino", permitted=False)
    lines = describe([port]).splitlines()
    assert lines[:3] == [f"{name}, now /dev/ttyACM0", "  Arduino", "  2341:0043 Arduino[2J Uno"]
    assert "group" in lines[3]
    assert "dialout" in lines[3]


def test_names_that_stay_are_those_of_the_links(tmp_path):
    (tmp_path / "ttyACM3").touch()
    links = tmp_path / "by-id"
    assert stable_names(links) == {}
    links.mkdir()
    (links / "usb-Arduino_Uno-if00").symlink_to(tmp_path / "ttyACM3")
    assert stable_names(links) == {str(tmp_path / "ttyACM3"): str(links / "usb-Arduino_Uno-if00")}


def test_what_speaks_is_found_out_only_where_that_is_asked_for(simulate):
    with simulate("--device", "shimmer3") as device:
        (looked,) = json.loads(ports(device.port, "--json"))
        assert looked["speaks"] == ""
        (probed,) = json.loads(ports(device.port, "--probe", "--json"))
        assert probed["speaks"].startswith("speaks: shimmer3 at 115200 baud (certain: ")
        assert "speaks: shimmer3" in ports(device.port, "--probe")


def test_a_port_that_cannot_be_probed_says_why():
    (probed,) = json.loads(ports("/dev/nothing", "--probe", "--json"))
    assert "no such port" in probed["speaks"]
