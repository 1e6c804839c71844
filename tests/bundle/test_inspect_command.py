"""`edgepain inspect`: all that a person asks, in 80 columns; a stranger's text does nothing to the terminal."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import msgspec
import pytest

from edgepain.bundle import MANIFEST, SIGNATURE, Bundle, engines_folder, open_bundle, pack, seal, write_manifest


def relabelled(bundle: Bundle, **changes: object) -> Path:
    write_manifest(bundle.root, msgspec.structs.replace(bundle.manifest, **changes))
    return bundle.root


def test_json_says_all_of_it(edgepain, exported: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    done = edgepain("inspect", exported.root, "--json")
    (line,) = done.stdout.splitlines()
    said = json.loads(line)
    assert said["manifest"] == json.loads((exported.root / MANIFEST).read_text())
    assert said["manifest_sha256"] == hashlib.sha256((exported.root / MANIFEST).read_bytes()).hexdigest()
    assert said["bytes"] == sum(p.stat().st_size for p in exported.root.iterdir())
    assert (said["kind"], said["path"]) == ("directory", str(exported.root))
    assert (said["golden_windows"], said["calibration_windows"]) == (32, 52)
    assert said["signature"] == {"state": "none", "fingerprint": ""}
    assert said["engines"] == {}
    local = Path(said["engines_folder"])
    assert local == tmp_path / "data" / "edgepain" / "engines" / exported.manifest.sha256
    local.mkdir(parents=True)
    (local / "a.plan").write_bytes(b"plan")
    (local / ".lock").touch()
    said["engines"] = {"a.plan": {"bytes": 4, "sha256": hashlib.sha256(b"plan").hexdigest()}}
    pack(exported.root, tmp_path / "small.zip")
    zipped = json.loads(edgepain("inspect", tmp_path / "small.zip", "--json").stdout)
    assert zipped == {**said, "kind": "zip", "path": str(tmp_path / "small.zip")}


@pytest.mark.parametrize("columns", [80, 120])
def test_a_person_reads_all_of_it(
    edgepain, signed: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    root = Path(shutil.copytree(signed.root, tmp_path / "people"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    engines = engines_folder(signed.manifest.sha256)
    engines.mkdir(parents=True)
    (engines / "orin-sm87__trt10.3.0.26__int8__3fa2b1.plan").write_bytes(b"plan")
    done = edgepain("inspect", root, columns=columns)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= columns
    assert "…" not in done.stdout.replace("…\n", "\n").replace("… ", " "), "only hashes are cut short"
    text = " ".join(done.stdout.split())
    manifest = signed.manifest
    assert signed.signature is not None
    for expected in (
        manifest.name,
        f"made {manifest.created} by edgepain {manifest.tools['edgepain']}",
        f"torch {manifest.tools['torch']}",
        "signature valid, by the key below; compare it with --trusted-key",
        f"key {signed.signature.fingerprint}",
        f"manifest {hashlib.sha256((root / MANIFEST).read_bytes()).hexdigest()}",
        "labels no pain / pain",
        "eda in uS, 4 to 1000 Hz",
        "bvp in a.u., 4 to 1000 Hz",
        "window 5.5 s as 40 points",
        "median and IQR of the 10 to 100 s before the window; in training: causal",
        "dataset none (SIMULATED people, no real ones)",
        "trained on 3 people, 100 windows",
        "held out 2 people (names not stated)",
        "configuration none, seed 0",
        "on training people only; 52 of their windows are in calibration.npz",
        "32 golden windows",
        "int8 causal 68",
        "model.int8.onnx",
        "LayerNormalization",
        f"{signed.graph('int8').int8_weight_share:.1%}",
        manifest.files["model.onnx"].sha256[:16],
        "built of it by this user: no part of the bundle",
        "orin-sm87__trt10.3.0.26__int8__3fa2b1.plan",
    ):
        assert expected in text, expected


def test_what_the_training_was_is_said(edgepain, bundle_copy: Bundle) -> None:
    training = msgspec.structs.replace(
        bundle_copy.manifest.training,
        dataset="biovid",
        synthetic=False,
        protocol="leave one subject out",
        fold="seed 0, subject 071309_w_21",
        held_out=("071309_w_21",),
        held_out_subjects=1,
        modality_dropout=0.2,
    )
    text = " ".join(edgepain("inspect", relabelled(bundle_copy, training=training)).stdout.split())
    assert "dataset biovid task" in text
    assert "fold seed 0, subject 071309_w_21" in text
    assert "held out 1 people: 071309_w_21" in text
    assert "can answer without the other (modality dropout 0.2)" in text
    assert "SIMULATED" not in text


def test_a_demonstration_is_called_one(edgepain) -> None:
    said = edgepain("inspect").stdout
    assert "A demonstration, only for show: it says nothing about anybody's pain." in said


def test_markup_and_long_names_of_a_stranger_are_text(edgepain, bundle_copy: Bundle) -> None:
    name = "[bold red]trusted[/] [link=https://example.org]" + "long " * 40 + "[/x]"
    graphs = tuple(
        msgspec.structs.replace(g, float_operators={"[blink]Conv[/nothing]": 1}) for g in bundle_copy.manifest.graphs
    )
    root = relabelled(bundle_copy, name=name, notes=("[/]", "a" * 300), graphs=graphs, labels=("[red]", "[/red]"))
    done = edgepain("inspect", root)
    assert done.returncode == 0, done.stderr
    assert "[bold red]trusted[/]" in done.stdout
    assert "[blink]Conv[/nothing]" in "".join(done.stdout.split())
    assert "[red] / [/red]" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_what_is_refused_is_one_line(edgepain, bundle_copy: Bundle, tmp_path: Path) -> None:
    (bundle_copy.root / "model.onnx").write_bytes(b"x")
    for path in (bundle_copy.root, tmp_path / "nothing", Path(__file__)):
        done = edgepain("inspect", path)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (4, "", 1)


def test_a_signature_that_is_not_valid_is_refused_without_a_key_too(edgepain, signed_copy: Path) -> None:
    path = signed_copy / SIGNATURE
    facts = json.loads(path.read_text())
    path.write_bytes(seal({**facts, "signature": "A" * 86 + "=="}))
    assert open_bundle(signed_copy).signature is not None
    done = edgepain("inspect", signed_copy)
    assert done.returncode == 4
    assert "is not valid" in done.stderr
