"""A bundle is hostile until checked: whatever is wrong with it ends in a BundleError."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepain.bundle import MANIFEST, SCHEMA, Bundle, demonstration_bundle, open_bundle, seal, sha256_of, write_manifest
from edgepain.errors import BundleError, BundleMismatchError
from edgepain.signal import Modality, StreamInfo

SENSOR = (StreamInfo(Modality.EDA, "uS", 8.0), StreamInfo(Modality.BVP, "a.u.", 64.0))


def edit(bundle: Bundle, **changes: Any) -> None:
    """Change fields of the manifest as an attacker would, who computes its hash again."""
    path = bundle.root / MANIFEST
    path.write_bytes(seal({**json.loads(path.read_text()), **changes}))


def listed(bundle: Bundle, **extra: Any) -> dict[str, Any]:
    return {**msgspec.to_builtins(bundle.manifest.files), **extra}


def refusal(root: Path) -> str:
    """Why the bundle is refused, empty where it is not; anything but a BundleError fails the test."""
    try:
        open_bundle(root).golden()
    except BundleError as error:
        return str(error)
    return ""


def test_what_was_written_is_what_opens(exported: Bundle) -> None:
    assert open_bundle(exported.root) == exported
    graphs = {"model.onnx", "model.ort", "model.int8.onnx", "model.int8.ort"}
    assert set(exported.manifest.files) == {*graphs, "golden.npz", "calibration.npz"}
    for name, facts in exported.manifest.files.items():
        assert facts.sha256 == sha256_of(exported.root / name)


@pytest.mark.parametrize(
    ("before", "after"), [('"no pain"', '"pain?"'), ('"min_history_s": 10.0', '"min_history_s": 1.0')]
)
def test_an_edited_manifest_is_found(bundle_copy: Bundle, before: str, after: str) -> None:
    path = bundle_copy.root / MANIFEST
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    with pytest.raises(BundleError, match=r"manifest\.json was changed after export"):
        open_bundle(bundle_copy.root)


def test_no_directory_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a bundle directory"):
        open_bundle(tmp_path / "nothing")
    with pytest.raises(BundleError, match=r"no manifest\.json"):
        open_bundle(tmp_path)


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz", "calibration.npz"])
def test_one_changed_byte_is_found(bundle_copy: Bundle, name: str) -> None:
    path = bundle_copy.root / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match="changed after export"):
        open_bundle(bundle_copy.root)


def test_truncated_and_missing_files_are_found(bundle_copy: Bundle) -> None:
    path = bundle_copy.root / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match="bytes, the manifest says"):
        open_bundle(bundle_copy.root)
    path.unlink()
    with pytest.raises(BundleError, match="is missing"):
        open_bundle(bundle_copy.root)


def test_unlisted_files_are_refused(bundle_copy: Bundle) -> None:
    (bundle_copy.root / "sub").mkdir()
    (bundle_copy.root / "sub" / "code.py").write_text("import os")
    with pytest.raises(BundleError, match="not listed"):
        open_bundle(bundle_copy.root)


def test_links_are_refused(bundle_copy: Bundle) -> None:
    path = bundle_copy.root / "model.onnx"
    moved = path.rename(bundle_copy.root.parent / "elsewhere.onnx")
    path.symlink_to(moved)
    with pytest.raises(BundleError, match="is missing"):
        open_bundle(bundle_copy.root)


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/hostname", "a/../../outside", "./model.onnx", "a\\b", "", "n" * 5000, "a\0b"]
)
def test_paths_out_of_the_bundle_are_refused(bundle_copy: Bundle, name: str) -> None:
    (bundle_copy.root.parent / "outside").write_text("x")
    edit(bundle_copy, files=listed(bundle_copy, **{name: {"bytes": 1, "sha256": "00"}}))
    with pytest.raises(BundleError):
        open_bundle(bundle_copy.root)


def test_newer_schema_says_so_before_anything_else(bundle_copy: Bundle) -> None:
    for tools, advice in (
        ({}, "was made by a newer edgepain and .* install a newer edgepain$"),
        ({"edgepain": "9.1.0rc2"}, "was made by edgepain 9.1.0rc2 and .* install edgepain 9.1.0rc2 or newer$"),
        ({"edgepain": "9\x1b[31m"}, "install a newer edgepain$"),
        ({"edgepain": ["9"]}, "install a newer edgepain$"),
    ):
        manifest = {"schema": SCHEMA + 1, "unheard": "of", "tools": tools}
        (bundle_copy.root / MANIFEST).write_text(json.dumps(manifest))
        with pytest.raises(BundleError, match=advice):
            open_bundle(bundle_copy.root)


@pytest.mark.parametrize("schema", [0, -1, True, 1.5, "1", None])
def test_schemas_that_never_were_are_refused(bundle_copy: Bundle, schema: Any) -> None:
    edit(bundle_copy, schema=schema)
    with pytest.raises(BundleError):
        open_bundle(bundle_copy.root)


def test_the_first_schema_is_still_read() -> None:
    """The packaged demonstration, until it is made again."""
    assert open_bundle(demonstration_bundle()).manifest.schema <= SCHEMA


@pytest.mark.parametrize("text", ["a\nb", "\x1b[2J", "\u202edlo", "\x9b31m", "\0"])
@pytest.mark.parametrize("where", ["name", "labels", "notes", "tools"])
def test_text_that_does_more_than_be_read_is_refused(bundle_copy: Bundle, where: str, text: str) -> None:
    values: dict[str, Any] = {"name": text, "labels": ["no pain", text], "notes": [text], "tools": {text: "1"}}
    edit(bundle_copy, **{where: values[where]})
    with pytest.raises(BundleError, match="characters that cannot be shown"):
        open_bundle(bundle_copy.root)


def test_a_manifest_that_says_a_thing_twice_is_refused(bundle_copy: Bundle) -> None:
    path = bundle_copy.root / MANIFEST
    once, twice = b'"demonstration": false', b'"demonstration": true, "demonstration": false'
    path.write_bytes(path.read_bytes().replace(once, twice))
    with pytest.raises(BundleError, match="was changed after export"):
        open_bundle(bundle_copy.root)


def test_engines_in_a_bundle_are_strangers(bundle_copy: Bundle) -> None:
    engines = bundle_copy.root / "engines"
    engines.mkdir()
    (engines / "orin-sm87__trt10.3.0.26__int8__abc.plan").write_bytes(b"plan")
    with pytest.raises(BundleError, match="engines is not listed in the manifest; remove it"):
        open_bundle(bundle_copy.root)


def test_folders_that_hold_nothing_listed_and_folders_elsewhere_are_refused(bundle_copy: Bundle) -> None:
    (bundle_copy.root / "empty").mkdir()
    with pytest.raises(BundleError, match="empty is not listed"):
        open_bundle(bundle_copy.root)
    (bundle_copy.root / "empty").rmdir()
    elsewhere = bundle_copy.root.parent / "elsewhere"
    elsewhere.mkdir()
    (bundle_copy.root / "model.onnx").rename(elsewhere / "model.onnx")
    (bundle_copy.root / "sub").symlink_to(elsewhere)
    graphs = [
        {**msgspec.to_builtins(g), "file": g.file.replace("model.onnx", "sub/model.onnx")}
        for g in bundle_copy.manifest.graphs
    ]
    files = {name.replace("model.onnx", "sub/model.onnx"): facts for name, facts in listed(bundle_copy).items()}
    edit(bundle_copy, graphs=graphs, files=files)
    with pytest.raises(BundleError, match="sub is a link"):
        open_bundle(bundle_copy.root)


def test_huge_manifest_is_not_read(bundle_copy: Bundle) -> None:
    (bundle_copy.root / MANIFEST).write_bytes(b" " * (1 << 21))
    with pytest.raises(BundleError, match="was not read"):
        open_bundle(bundle_copy.root)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("labels", ["only one"]),
        ("graphs", []),
        ("window", {"seconds": 5.5, "steps": 41}),
        ("window", {"seconds": -1.0, "steps": 40}),
        ("scaling", {"trained_with": "causal", "min_history_s": 100.0, "horizon_s": 10.0}),
        ("unknown", 1),
        ("files", {}),
    ],
)
def test_manifests_that_contradict_themselves_are_refused(bundle_copy: Bundle, field: str, value: Any) -> None:
    edit(bundle_copy, **{field: value})
    with pytest.raises(BundleError, match="damaged or not what its name says"):
        open_bundle(bundle_copy.root)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mangled_manifests_raise_nothing_else(exported: Bundle, tmp_path_factory: Any, data: st.DataObject) -> None:
    good = (exported.root / MANIFEST).read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    cut = data.draw(st.integers(0, 40))
    mangled = good[:at] + data.draw(st.binary(max_size=40)) + good[at + cut :]
    folder = tmp_path_factory.mktemp("mangled")
    for name in exported.manifest.files:
        (folder / name).hardlink_to(exported.root / name)
    (folder / MANIFEST).write_bytes(mangled)
    assert "\n" not in refusal(folder)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=6,
    ),
    data=st.data(),
)
def test_any_json_in_any_field_raises_nothing_else(
    exported: Bundle, tmp_path_factory: Any, value: Any, data: st.DataObject
) -> None:
    manifest = json.loads((exported.root / MANIFEST).read_text())
    manifest[data.draw(st.sampled_from(sorted(manifest)))] = value
    folder = tmp_path_factory.mktemp("typed")
    for name in exported.manifest.files:
        (folder / name).hardlink_to(exported.root / name)
    try:
        text = seal(manifest)
    except (OverflowError, UnicodeEncodeError):  # JSON that only Python writes.
        text = json.dumps(manifest).encode()
    (folder / MANIFEST).write_bytes(text)
    assert "\n" not in refusal(folder)


def test_golden_of_other_shapes_or_with_objects_is_refused(bundle_copy: Bundle) -> None:
    path = bundle_copy.root / "golden.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    for wrong in (
        {**arrays, "windows": arrays["windows"][:, :1]},
        {**arrays, "labels": arrays["labels"][:3]},
        {name: array for name, array in arrays.items() if name != "logits_int8"},
        {name: array[:0] for name, array in arrays.items()},
        {**arrays, "windows": np.float32(1)},
        {**arrays, "labels": np.int64(1)},
        {**arrays, "windows": arrays["windows"].astype(np.float64)},
        {**arrays, "labels": np.full(len(arrays["labels"]), np.nan)},
    ):
        np.savez(path, **wrong)
        with pytest.raises(BundleError, match="does not fit the manifest"):
            write_manifest(bundle_copy.root, bundle_copy.manifest).golden()
    np.savez(path, windows=np.array([{}], dtype=object))
    with pytest.raises(BundleError, match="cannot be read"):
        write_manifest(bundle_copy.root, bundle_copy.manifest).golden()
    np.savez(path, windows=np.array(["text"]))
    with pytest.raises(BundleError, match="no number"):
        write_manifest(bundle_copy.root, bundle_copy.manifest).golden()
    path.write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(BundleError, match="cannot be read"):
        write_manifest(bundle_copy.root, bundle_copy.manifest).golden()


def test_arrays_that_unpack_to_more_than_they_may_are_not_read(bundle_copy: Bundle) -> None:
    path = bundle_copy.root / "golden.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("windows.npy", "w") as member:
        for _ in range(300):
            member.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(BundleError, match="unpacks to more than 256 MiB"):
        write_manifest(bundle_copy.root, bundle_copy.manifest).golden()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("labels", b"no array")
    with pytest.raises(BundleError, match="cannot be read"):
        write_manifest(bundle_copy.root, bundle_copy.manifest).golden()


def test_a_sensor_that_fits_is_accepted(exported: Bundle) -> None:
    exported.require([*SENSOR, StreamInfo(Modality.ECG, "mV", 250.0)], "bench device")


@pytest.mark.parametrize(
    ("streams", "what"),
    [
        (SENSOR[:1], "needs bvp, but bench device gives eda"),
        ((), "no signal it knows"),
        ((StreamInfo(Modality.EDA, "kOhm", 8.0), SENSOR[1]), "needs eda in uS, but bench device gives it in kOhm"),
        ((StreamInfo(Modality.EDA, "uS", 2.0), SENSOR[1]), "at 4 to 1000 Hz, but bench device gives 2 Hz"),
        ((SENSOR[0], StreamInfo(Modality.BVP, "a.u.", 2000.0)), "gives 2000 Hz"),
        ((SENSOR[0], StreamInfo(Modality.BVP, "a.u.", float("nan"))), "gives nan Hz"),
    ],
)
def test_a_sensor_that_does_not_fit_is_refused(exported: Bundle, streams: tuple[StreamInfo, ...], what: str) -> None:
    with pytest.raises(BundleMismatchError, match=what):
        exported.require(streams, "bench device")
