"""`edgepain train` as a person uses it: real processes killed at any point, and messages for mistakes."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError, safe_open

from edgepain.train.run import Run

FCN_EPOCHS = 40


def arguments(root: Path, toml: Path, out: Path) -> list[str]:
    return ["--dataset", "e4", "--root", f"{root}", "--config", f"{toml}", "--holdout", "S02,S05", "--out", f"{out}"]


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "edgepain", "train", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80"},
        **options,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def stop(process: subprocess.Popen[str], by: signal.Signals, when: Callable[[], bool]) -> tuple[int, str, str]:
    """Send the signal as soon as `when` holds."""
    while not when():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.send_signal(by)
    return finish(process)


@contextmanager
def blocking(path: Path) -> Iterator[None]:
    """Whoever opens `path` meanwhile waits: it is a pipe with nobody at its other end."""
    kept = path.read_bytes() if path.exists() else None
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    try:
        yield
    finally:
        path.unlink()
        if kept is not None:
            path.write_bytes(kept)


def fold(run: Path) -> Path:
    return run / "folds" / "seed0-fold00"


def epochs(run: Path, stage: str) -> int:
    """Epochs in the checkpoint of a stage."""
    try:
        with safe_open(fold(run) / "stages" / stage / "state.safetensors", framework="np") as file:
            return len(re.findall("learning_rate", file.metadata()["history"]))
    except (FileNotFoundError, SafetensorError):
        return 0


def killed_in_the_first_stage(begin: list[str], run: Path) -> int:
    """Start a run and kill it in the middle of its first stage; how many epochs it has."""
    for _ in range(10):
        process = start(*begin)
        while epochs(run, "fcn.eda") < 3 and process.poll() is None:
            time.sleep(0.001)
        process.kill()
        finish(process)
        if 3 <= (done := epochs(run, "fcn.eda")) < FCN_EPOCHS:
            return done
        shutil.rmtree(run)  # Too late: this process was not woken in time.
    pytest.fail("no kill hit the first stage")


@pytest.fixture(scope="module")
def longer_toml(tiny_toml: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A first stage that is long enough to be hit in its middle."""
    path = tmp_path_factory.mktemp("config") / "longer.toml"
    path.write_text(tiny_toml.read_text().replace("epochs = 3", f"epochs = {FCN_EPOCHS}", 1))
    return path


def test_a_run_that_is_killed_again_and_again_ends_like_one_that_is_not(
    edgepain: Callable[..., Any],
    e4_root: Path,
    longer_toml: Path,
    tmp_path: Path,
    checkpoints: Callable[[Path], dict[str, Any]],
) -> None:
    root, run = shutil.copytree(e4_root, tmp_path / "data"), tmp_path / "killed"
    begin, resume = arguments(root, longer_toml, run), ["--resume", f"{run}"]

    with blocking(root / "labels.csv"):
        code, _, err = stop(start(*begin), signal.SIGINT, run.exists)
        assert (code, err.strip()) == (130, "interrupted")
        shutil.rmtree(run)
        assert stop(start(*begin), signal.SIGKILL, run.exists)[0] == -signal.SIGKILL
    answer = edgepain("train", *resume)
    assert answer.code == 3
    assert re.fullmatch(r"error: \S+killed is no run folder \(no config.json\); start one with: .*\n", answer.err)

    done = killed_in_the_first_stage(begin, run)

    # Blocked in the middle of a stage's first checkpoint: its epoch is trained and not on disk.
    with blocking(fold(run) / "stages" / "alstm.eda" / ".state.safetensors.partial"):
        code, _, err = stop(start(*resume), signal.SIGINT, (fold(run) / "stages" / "alstm.eda" / "epochs.csv").is_file)
    assert code == 130
    assert err.endswith(f"\nstopped; go on with: edgepain train --resume {run}\ninterrupted\n")
    assert "Traceback" not in err
    trained = [int(epoch) for epoch in re.findall(r"fcn.eda: epoch (\d+) of", err)]
    assert min(trained) > done
    assert epochs(run, "alstm.eda") == 0
    (fold(run) / "stages" / "alstm.eda" / ".state.safetensors.partial").write_bytes(b"half")

    with blocking(fold(run) / "stages" / "crossmod" / ".epochs.csv.partial"):
        code, _, err = stop(start(*resume), signal.SIGKILL, lambda: epochs(run, "transformer.bvp") == 2)
    assert code == -signal.SIGKILL
    assert "fcn.eda" not in err
    assert not (run / "results.json").exists()

    answer = edgepain("train", *resume)
    assert answer.code == 0
    assert "transformer" not in answer.err
    assert f"next: edgepain export {run} --out bundles/killed" in answer.out

    through = tmp_path / "through"
    assert edgepain("train", *arguments(root, longer_toml, through)).code == 0
    assert checkpoints(run) == checkpoints(through)
    assert (run / "results.json").read_bytes() == (through / "results.json").read_bytes()
    assert not (fold(run) / "features").exists()


def test_a_full_disk_is_one_line(edgepain: Callable[..., Any], e4_root: Path, tiny_toml: Path, tmp_path: Path) -> None:
    limit = 200_000  # Enough for the windows, too little for weights.
    process = start(
        *arguments(e4_root, tiny_toml, tmp_path / "run"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    code, _, err = finish(process)
    assert code == 3
    assert re.fullmatch(
        r"error: \S+/fcn.eda/state.safetensors cannot be written \(File too large\); make room .*\n", err
    )
    assert edgepain("train", "--resume", tmp_path / "run").code == 0


def test_the_table_of_results_fits_80_columns(
    edgepain: Callable[..., Any], trained_run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    run = shutil.copytree(trained_run.folder, tmp_path / "finished")
    answer = edgepain("train", "--resume", run)
    assert answer.code == 0
    assert (
        "e4: label 0 / label 1 from eda + bvp; hold-out by subject (S02,S05): 3 subjects train, 2 held out"
        in answer.out
    )
    assert "held out: S02, S05\n" in answer.out
    assert "simulated people: synthetic data" in answer.out
    assert "…" not in answer.out
    for scaling in ("subject", "causal"):
        assert re.search(rf"^ *transformer.eda +{scaling}( +\d+\.\d\d){{6}} *$", answer.out, re.MULTILINE)
        assert f"{scaling} scaling: 12 windows, 0 left out" in answer.out
    assert answer.err == ""


def test_help_shows_how(edgepain: Callable[..., Any]) -> None:
    answer = edgepain("train", "--help")
    assert answer.code == 0
    assert "edgepain train --resume runs/loso" in answer.out


MISTAKES = [
    ([], 2, "--dataset and --root and --out must be given"),
    (["--root", "nowhere"], 3, "nowhere: no such folder; give the folder that holds the e4 data"),
    (["--dataset", "biovid"], 3, "expected PartA/biosignals_filtered and PartA/starting_point/samples.csv here"),
    (["--config", "papre"], 2, "configuration papre cannot be read"),
    (["--config", "WRONG"], 2, r"unknown field `epoch` - at `\$.fcn`; compare it with the shipped paper.toml"),
    (["--modalities", "eda,ekg"], 2, "'ekg' is not a valid Modality; there are eda, ecg, bvp"),
    (["--modalities", "eda"], 2, "--modalities takes two different ones, e.g. eda,ecg"),
    (["--modalities", "eda,bvp,eda"], 2, "--modalities takes two different ones"),
    (["--modalities", "eda,ecg"], 2, "e4 has no ecg; it has eda, bvp"),
    (["--holdout", "S99"], 2, "cannot hold out 'S99': no such subject with usable windows"),
    (["--holdout", "5"], 2, "cannot hold out 5 of 5 subjects; choose 1 to 4"),
    (["--option", "speed=1"], 2, "e4 has no option 'speed'; it has"),
    (["--option", "speed"], 2, "option 'speed' is not NAME=VALUE"),
    (["--option", "positive=no pain"], 2, "give segment names for both positive and negative, or for neither"),
    (["--seed", "-1"], 2, "-1 is not in the range"),
    (["--fusion", "stacked"], 2, "'stacked' is not one of 'pooled', 'sequence'"),
]


@pytest.mark.parametrize(("wrong", "code", "message"), MISTAKES, ids=[" ".join(row[0]) or "none" for row in MISTAKES])
def test_a_mistake_is_one_line_that_says_what_to_do(
    edgepain: Callable[..., Any],
    e4_root: Path,
    tiny_toml: Path,
    tmp_path: Path,
    wrong: list[str],
    code: int,
    message: str,
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(tiny_toml.read_text().replace("epochs", "epoch", 1))
    right = arguments(e4_root, tiny_toml, tmp_path / "run") if wrong else []
    answer = edgepain("train", *right, *(str(path) if text == "WRONG" else text for text in wrong))
    assert answer.code == code
    *usage, line = answer.err.splitlines()
    assert re.search(message, line)
    assert all(text.startswith(("Usage:", "Try")) or not text for text in usage)
    assert not (tmp_path / "run" / "config.json").exists()


def damage_checkpoint(run: Path) -> None:
    (fold(run) / "answers" / "crossmod.npz").unlink()
    path = fold(run) / "stages" / "alstm.bvp" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def damage_windows(run: Path) -> None:
    path = run / "windows.npz"
    path.write_bytes(path.read_bytes()[:5000])


def edit_seed(run: Path) -> None:
    path = run / "config.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_checkpoint, r"alstm.bvp/state.safetensors is damaged \(.*\); train this stage .* --redo alstm.bvp"),
        (damage_windows, r"windows.npz is missing or damaged \(.*\); train again in a new run folder"),
        (lambda run: (run / "windows.npz").unlink(), r"windows.npz is missing or damaged"),
        (edit_seed, r"belongs to another configuration or other data; start a new run folder with --out"),
        (lambda run: (run / "config.json").write_text("{"), r"config.json is missing, damaged or of another version"),
        (lambda run: (run / "environment.json").unlink(), r"environment.json is missing, damaged"),
        (shutil.rmtree, r"is no run folder \(no config.json\); start one with: edgepain train --out"),
    ],
)
def test_a_damaged_run_is_one_line(
    edgepain: Callable[..., Any], trained_run: Run, tmp_path: Path, damage: Callable[[Path], Any], message: str
) -> None:
    run = shutil.copytree(trained_run.folder, tmp_path / "run")
    damage(run)
    answer = edgepain("train", "--resume", run)
    assert answer.code == 3
    (line,) = answer.err.splitlines()
    assert line.startswith("error: ")
    assert re.search(message, line)


def test_a_damaged_checkpoint_of_a_finished_run_is_made_again_as_the_message_says(
    edgepain: Callable[..., Any], trained_run: Run, tmp_path: Path, checkpoints: Callable[[Path], dict[str, Any]]
) -> None:
    run = shutil.copytree(trained_run.folder, tmp_path / "run")
    path = fold(run) / "stages" / "alstm.bvp" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert edgepain("train", "--resume", run, "--redo", "alstm.bvp").code == 0
    assert checkpoints(run) == checkpoints(trained_run.folder)


def test_a_run_that_cannot_start_leaves_no_folder(edgepain: Callable[..., Any], tmp_path: Path) -> None:
    answer = edgepain("train", "--dataset", "e4", "--root", tmp_path / "nowhere", "--out", tmp_path / "run")
    assert answer.code == 3
    assert not (tmp_path / "run").exists()


def test_a_deleted_checkpoint_is_trained_again(
    edgepain: Callable[..., Any],
    trained_run: Run,
    tmp_path: Path,
    checkpoints: Callable[[Path], dict[str, Any]],
) -> None:
    run = shutil.copytree(trained_run.folder, tmp_path / "run")
    damage_checkpoint(run)
    (fold(run) / "stages" / "alstm.bvp" / "state.safetensors").unlink()
    answer = edgepain("train", "--resume", run)
    assert answer.code == 0
    first, last = answer.err.splitlines()
    assert re.fullmatch(r"alstm.bvp: epoch 1 of 2, loss \d.* %, \d+:\d\d:\d\d left in all", first)
    assert re.fullmatch(r"alstm.bvp: epoch 2 of 2, loss \d.* %, \d+:\d\d:\d\d left in all", last)
    assert checkpoints(run) == checkpoints(trained_run.folder)


def test_resume_takes_no_other_settings(edgepain: Callable[..., Any], trained_run: Run) -> None:
    for option, value in (("--seed", 1), ("--config", "paper"), ("--threads", 2), ("--protocol", "loso")):
        answer = edgepain("train", "--resume", trained_run.folder, option, value)
        assert answer.code == 2
        assert answer.err.splitlines()[-1] == (
            f"Error: --resume goes on with what the run began with; leave out {option}"
        )


def test_a_folder_in_use_is_not_touched(
    edgepain: Callable[..., Any], trained_run: Run, e4_root: Path, tiny_toml: Path
) -> None:
    before = (trained_run.folder / "config.json").stat()
    answer = edgepain("train", *arguments(e4_root, tiny_toml, trained_run.folder))
    assert answer.code == 2
    assert answer.err == (
        f"error: {trained_run.folder} holds a run; go on with: edgepain train --resume {trained_run.folder}, "
        "or choose another --out\n"
    )
    assert (trained_run.folder / "config.json").stat() == before


def test_threads_go_on_as_they_began(edgepain: Callable[..., Any], trained_run: Run, tmp_path: Path) -> None:
    import torch

    run = shutil.copytree(trained_run.folder, tmp_path / "run")
    path = run / "environment.json"
    path.write_text(path.read_text().replace('"threads": 1', '"threads": 2'))
    (fold(run) / "answers" / "crossmod.npz").unlink()
    try:
        assert edgepain("train", "--resume", run).code == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_files_and_subjects_that_are_left_out_are_named(
    edgepain: Callable[..., Any], e4_root: Path, tiny_toml: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(e4_root, tmp_path / "data")
    with (root / "labels.csv").open("a") as file:
        file.write("S03,pain,1,99990,99999\n")
        file.writelines(f"nobody{number},pain,1,1,9\n" for number in range(12))
    answer = edgepain("train", *arguments(root, tiny_toml, tmp_path / "run"))
    assert answer.code == 0
    named = [line for line in answer.err.splitlines() if line.startswith("left out: ")]
    assert len(named) == 11
    assert "no session folder of subject nobody0" in answer.err
    assert named[-1] == f"left out: 3 more; see: edgepain data check {root}"


def test_two_runs_that_begin_in_one_folder_do_not_mix(e4_root: Path, tiny_toml: Path, tmp_path: Path) -> None:
    plan = arguments(e4_root, tiny_toml, tmp_path / "run")
    both = [start(*plan, "--peers-only", "--peer", peer) for peer in ("random-forest", "svm")]
    ends = sorted(finish(process) for process in both)
    assert [code for code, _, _ in ends] in ([0, 2], [0, 3])
    assert re.search(r"is being trained by another process|holds a run; go on with", ends[1][2])
    (answers,) = (tmp_path / "run").glob("folds/*/answers/*.npz")
    assert answers.stem in ends[0][1]


def test_damaged_answers_are_made_again(edgepain: Callable[..., Any], trained_run: Run, tmp_path: Path) -> None:
    run = shutil.copytree(trained_run.folder, tmp_path / "run")
    path = fold(run) / "answers" / "crossmod.npz"
    path.write_bytes(path.read_bytes()[:-50])
    answer = edgepain("train", "--resume", run)
    assert answer.code == 0
    assert "seed0-fold00/crossmod: the answers are damaged; they are made again" in answer.err
    assert (run / "results.json").read_bytes() == (trained_run.folder / "results.json").read_bytes()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--peer", "crossmod"], 2, "a peer cannot be called 'crossmod'"),
        (["--peer", "oracle"], 2, "no peer is called 'oracle'"),
        (["--peers-only"], 2, "there is nothing to train"),
        (["--protocol", "loso"], 2, "--holdout is for --protocol holdout, not loso"),
        (["--address", "auto"], 2, "--address is for --engine ray"),
        (["--redo", "fcn.eda"], 2, "--redo and --fold need --resume RUN"),
        (["--holdout", "S01,S02,S03,S04", "--calibration-share", "0.2"], 2, "leave out --calibration-share"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    edgepain: Callable[..., Any],
    e4_root: Path,
    tiny_toml: Path,
    tmp_path: Path,
    options: list[str],
    code: int,
    message: str,
) -> None:
    answer = edgepain("train", *arguments(e4_root, tiny_toml, tmp_path / "run"), *options)
    assert (answer.code, answer.out) == (code, "")
    assert message in answer.err
    assert not (tmp_path / "run" / "config.json").exists()


def test_one_stage_of_one_fold_is_trained_again(
    edgepain: Callable[..., Any], trained_run: Run, tmp_path: Path, checkpoints: Callable[[Path], dict[str, Any]]
) -> None:
    run = shutil.copytree(trained_run.folder, tmp_path / "run")
    answer = edgepain("train", "--resume", run, "--redo", "transformer.eda", "--fold", "seed0-fold00")
    assert answer.code == 0
    assert {line.partition(":")[0] for line in answer.err.splitlines()} == {"transformer.eda", "crossmod"}
    assert checkpoints(run) == checkpoints(trained_run.folder)
    assert edgepain("train", "--resume", run, "--redo", "rnn.eda").code == 2
