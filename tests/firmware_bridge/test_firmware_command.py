"""`edgepain firmware`: the library as a pip user gets it."""

import re
import subprocess
import sys
from pathlib import Path

FIRMWARE = Path(__file__).resolve().parents[2] / "firmware_bridge" / "firmware"


def run(*arguments):
    command = [sys.executable, "-m", "edgepain", "firmware", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_copies_every_file_as_an_arduino_library(tmp_path):
    result = run(tmp_path / "libraries")
    assert result.returncode == 0, result.stderr
    copy = tmp_path / "libraries" / "edgeframe"
    assert contents(copy) == contents(FIRMWARE)
    properties = dict(line.split("=", 1) for line in (copy / "library.properties").read_text().splitlines())
    # What the Arduino IDE asks of a library: these fields, and an example of the same name as its folder.
    fields = {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures"}
    assert fields <= set(properties)
    assert re.fullmatch(r"\d+\.\d+\.\d+", properties["version"])
    assert (copy / "src" / properties["includes"]).is_file()
    assert (copy / "examples" / "edgeframe_eda_ppg" / "edgeframe_eda_ppg.ino").is_file()


def test_a_copy_that_is_there_is_replaced_only_when_told_to(tmp_path):
    run(tmp_path)
    header = tmp_path / "edgeframe" / "src" / "edgeframe.h"
    header.write_text("mine")
    refused = run(tmp_path)
    assert (refused.returncode, header.read_text()) == (2, "mine")
    assert "--force" in refused.stderr
    assert run(tmp_path, "--force").returncode == 0
    assert contents(tmp_path / "edgeframe") == contents(FIRMWARE)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    result = run(tmp_path / "file")
    assert result.returncode == 2
    assert str(tmp_path / "file" / "edgeframe") in result.stderr
