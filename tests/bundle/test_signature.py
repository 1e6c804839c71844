"""Signatures: whose they are, what they cover, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)

from edgepain.bundle import (
    MANIFEST,
    SIGNATURE,
    Bundle,
    make_keys,
    open_bundle,
    read_private_key,
    seal,
    sign_bundle,
    write_manifest,
)
from edgepain.errors import BundleError, ConfigError


def test_a_signed_bundle_opens_with_its_key_and_without(signed: Bundle, public_key: Path, exported: Bundle) -> None:
    trusting = open_bundle(signed.root, trusted_key=public_key)
    assert trusting.trusted
    assert trusting.signature is not None
    der = load_pem_public_key(public_key.read_bytes()).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert trusting.signature.fingerprint == hashlib.sha256(der).hexdigest()
    assert not open_bundle(signed.root).trusted
    assert open_bundle(signed.root).manifest == exported.manifest
    assert SIGNATURE not in signed.manifest.files


def test_any_other_program_can_verify_it(signed: Bundle, public_key: Path) -> None:
    """Ed25519 over the manifest's bytes as they are, nothing of ours around them."""
    signature = json.loads((signed.root / SIGNATURE).read_text())["signature"]
    key = load_pem_public_key(public_key.read_bytes())
    assert isinstance(key, ed25519.Ed25519PublicKey)
    key.verify(base64.b64decode(signature), (signed.root / MANIFEST).read_bytes())


def test_a_bundle_without_a_signature_is_refused_where_one_is_required(exported: Bundle, public_key: Path) -> None:
    with pytest.raises(BundleError, match=r"is not signed, and the key [0-9a-f]{64} is required"):
        open_bundle(exported.root, trusted_key=public_key)


def test_the_signature_of_somebody_else_is_refused(signed: Bundle, other_key: Path) -> None:
    with pytest.raises(BundleError, match=r"is signed with the key [0-9a-f]{64}, but [0-9a-f]{64} is required"):
        open_bundle(signed.root, trusted_key=Path(f"{other_key}.pub"))


def test_a_stranger_who_computes_every_hash_again_is_refused(signed_copy: Path, public_key: Path) -> None:
    """Without the key, all of this opens: hashes alone show slips, not intent."""
    old = json.loads((signed_copy / SIGNATURE).read_text())
    bundle = open_bundle(signed_copy)
    (signed_copy / SIGNATURE).unlink()
    write_manifest(signed_copy, msgspec.structs.replace(bundle.manifest, labels=("pain", "no pain")))
    manifest = (signed_copy / MANIFEST).read_bytes()
    forged = {**old, "manifest_sha256": hashlib.sha256(manifest).hexdigest()}
    (signed_copy / SIGNATURE).write_bytes(seal(forged))
    assert open_bundle(signed_copy).manifest.labels == ("pain", "no pain")
    with pytest.raises(BundleError, match=r"signature of bundle .* is not valid"):
        open_bundle(signed_copy, trusted_key=public_key)


def test_the_signature_of_an_older_manifest_is_refused_without_any_key(signed_copy: Path) -> None:
    bundle = open_bundle(signed_copy)
    with pytest.raises(BundleError, match="signature of another manifest"):
        write_manifest(signed_copy, msgspec.structs.replace(bundle.manifest, name="other"))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"algorithm": "none"}, "no signature that this edgepain knows"),
        ({"public_key": "AAAA"}, "no signature that this edgepain knows"),
        ({"signature": "not base64"}, "no signature that this edgepain knows"),
        ({"extra": 1}, "no signature that this edgepain knows"),
        ({"signature": None}, "no signature that this edgepain knows"),
    ],
)
def test_signature_files_of_another_form_are_refused(
    signed_copy: Path, changes: dict[str, Any], complaint: str
) -> None:
    path = signed_copy / SIGNATURE
    path.write_bytes(seal({**json.loads(path.read_text()), **changes}))
    with pytest.raises(BundleError, match=complaint):
        open_bundle(signed_copy)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b"x" * 100_000])
def test_signature_files_that_are_none_are_refused(signed_copy: Path, content: bytes) -> None:
    (signed_copy / SIGNATURE).write_bytes(content)
    with pytest.raises(BundleError, match=r"signature\.json"):
        open_bundle(signed_copy)


def test_keys_are_for_their_owner_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "k"
    old = os.umask(0)
    try:
        make_keys(path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="exists already and is not overwritten"):
        make_keys(path)
    (tmp_path / "k").unlink()
    with pytest.raises(ConfigError, match=r"k\.pub exists already"):
        make_keys(path)
    assert not path.exists()
    assert b"PRIVATE KEY" in before
    with pytest.raises(ConfigError, match="cannot be written"):
        make_keys(tmp_path / "no" / "k")


def _pem(key: Any, lock: Any = None) -> bytes:
    data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock or NoEncryption())
    assert isinstance(data, bytes)
    return data


def test_keys_of_another_kind_are_refused(tmp_path: Path, signed: Bundle, key: Path) -> None:
    def refusal(content: bytes) -> tuple[str, str]:
        path = tmp_path / "some.key"
        path.write_bytes(content)
        complaints = []
        for use in (read_private_key, lambda path: open_bundle(signed.root, trusted_key=path)):
            with pytest.raises(ConfigError) as caught:
                use(path)
            complaints.append(str(caught.value))
        return complaints[0], complaints[1]

    private, public = refusal(_pem(ec.generate_private_key(ec.SECP256R1())))
    assert "no Ed25519 key" in private
    assert "is a private key; name the public one" in public
    curve = ec.generate_private_key(ec.SECP256R1()).public_key()
    private, public = refusal(curve.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert "no private key in PEM" in private
    assert "no Ed25519 key" in public
    private, _ = refusal(_pem(ed25519.Ed25519PrivateKey.generate(), BestAvailableEncryption(b"secret")))
    assert "locked by a passphrase" in private
    for content in (b"", b"\xff\0", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"):
        assert all("edgepain keygen" in complaint for complaint in refusal(content))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_private_key(tmp_path / "nothing")


def test_signing_again_needs_to_be_asked_for(signed_copy: Path, other_key: Path) -> None:
    key = read_private_key(other_key)
    with pytest.raises(ConfigError, match="is signed already"):
        sign_bundle(signed_copy, key)
    sign_bundle(signed_copy, key, replace=True)
    assert open_bundle(signed_copy, trusted_key=Path(f"{other_key}.pub")).trusted
    assert sorted(p.name for p in signed_copy.iterdir() if p.name.startswith(".")) == []


def test_a_damaged_bundle_is_not_signed(bundle_copy: Bundle, key: Path) -> None:
    (bundle_copy.root / "golden.npz").write_bytes(b"")
    with pytest.raises(BundleError):
        sign_bundle(bundle_copy.root, read_private_key(key))
    assert not (bundle_copy.root / SIGNATURE).exists()


def test_the_commands_from_key_to_trust(edgepain, bundle_copy: Bundle, tmp_path: Path) -> None:
    made = edgepain("keygen", tmp_path / "my.key")
    assert made.returncode == 0
    fingerprint = made.stdout.split("fingerprint: ")[1].strip()
    done = edgepain("sign", bundle_copy.root, "--key", tmp_path / "my.key")
    assert done.stdout == f"{bundle_copy.root}: signed with {fingerprint}\n"
    trusted = edgepain("inspect", bundle_copy.root, "--trusted-key", tmp_path / "my.key.pub", "--json")
    assert json.loads(trusted.stdout)["signature"] == {"state": "trusted", "fingerprint": fingerprint}
    again = edgepain("sign", bundle_copy.root, "--key", tmp_path / "my.key")
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize("case", ["unsigned", "wrong key", "altered"])
@pytest.mark.parametrize("name", ["run", "bench", "evaluate", "inspect"])
def test_every_command_refuses_what_the_key_does_not_vouch_for(
    edgepain, name: str, case: str, exported: Bundle, signed_copy: Path, public_key: Path, other_key: Path
) -> None:
    bundle, trusted = signed_copy, public_key
    if case == "unsigned":
        bundle = exported.root
    elif case == "wrong key":
        trusted = Path(f"{other_key}.pub")
    else:
        manifest = open_bundle(signed_copy).manifest
        (signed_copy / SIGNATURE).rename(signed_copy.parent / SIGNATURE)
        write_manifest(signed_copy, msgspec.structs.replace(manifest, labels=("pain", "no pain")))
        (signed_copy.parent / SIGNATURE).rename(signed_copy / SIGNATURE)
    arguments = {
        "run": ("--port", "/dev/nothing", "--model", bundle),
        "bench": (bundle,),
        "evaluate": (bundle, "--dataset", "e4", "--root", "/nothing"),
        "inspect": (bundle,),
    }
    done = edgepain(name, *arguments[name], "--trusted-key", trusted)
    expected = {
        "unsigned": "is not signed, and the key",
        "wrong key": "is signed with the key",
        "altered": "is the signature of another manifest",
    }
    assert done.returncode == 4, done.stderr
    (line,) = done.stderr.splitlines()
    assert expected[case] in line
    assert done.stdout == ""


def test_without_cryptography_the_install_command_is_named(signed: Bundle, public_key: Path, tmp_path: Path) -> None:
    """As in the base install: signed bundles open, only a key cannot be required."""
    (tmp_path / "cryptography.py").write_text("raise ImportError('not here')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edgepain", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)

    advice = "error: cryptography is not installed; install it with: pip install 'edgepain[sign]'\n"
    keyed = ("--trusted-key", public_key)
    for arguments in (
        ("keygen", tmp_path / "k"),
        ("sign", signed.root, "--key", tmp_path / "k"),
        ("inspect", signed.root, *keyed),
        ("run", "--port", "/dev/nothing", "--model", signed.root, *keyed),
    ):
        done = run(*arguments)
        assert (done.returncode, done.stderr) == (1, advice)
    assert not (tmp_path / "k").exists()
    done = run("inspect", signed.root, "--json")
    assert json.loads(done.stdout)["signature"]["state"] == "unverified"
    assert "no such port" in run("run", "--port", "/dev/nothing", "--model", signed.root).stderr


def test_a_run_of_a_signed_bundle(signed: Bundle, public_key: Path, simulate, e4_session: Path, tmp_path: Path) -> None:
    zipped = tmp_path / "people.zip"
    command = [sys.executable, "-m", "edgepain", "pack", str(signed.root), str(zipped)]
    subprocess.run(command, check=True, capture_output=True)
    with simulate(e4_session, "--speed", 20, "--duration", 30) as device:
        command = [sys.executable, "-m", "edgepain", "run", "--json", "--port", device.port, "--give-up", "2"]
        command += ["--model", str(zipped), "--trusted-key", str(public_key)]
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)
    labels = [line["label"] for line in map(json.loads, done.stdout.splitlines()) if line["type"] == "decision"]
    assert set(labels) - {None} <= {"no pain", "pain"}
    assert any(labels)
    assert [p.name for p in tmp_path.iterdir()] == ["people.zip"], "what was unpacked is gone"


def test_openssl_gives_the_same_fingerprint(signed: Bundle, public_key: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl here")
    command = f"{openssl} pkey -pubin -in {public_key} -outform DER | sha256sum"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert signed.signature is not None
    assert done.stdout.split()[0] == signed.signature.fingerprint
