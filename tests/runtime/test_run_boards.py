"""`edgepain run` over simulated boards, and text lines: a decision, its latency, and what is refused."""

from edgepain.firmware_bridge import read_recording

WIRING = ["--device-option", "bvp=A1", "--device-option", "ecg=none", "--device-option", "rate_hz=100"]


def test_decisions_come_of_a_bitalino(live, simulate, e4_session, tmp_path):
    log = tmp_path / "bitalino.wire"
    board = ["--device", "bitalino", *WIRING]
    with (
        simulate(e4_session, *board, "--speed", 10) as device,
        live(device.port, *board, "--record", log, "--give-up", 1) as run,
    ):
        decided = run.until(lambda line: line["type"] == "decision" and line["label"] is not None)
        assert run.end() == 6, "the board is gone at the end"
        assert device.process.wait(60) == 0
    (told,) = run.of("device")
    assert [(s["modality"], s["unit"], s["rate_hz"]) for s in told["streams"]] == [
        ("eda", "uS", 20),
        ("bvp", "a.u.", 100),
    ]
    assert set(decided["signals"]) == {"eda", "bvp"}
    assert decided["latency_ms"] is not None
    summary = run.summary
    assert (summary["frames"], summary["frames_lost"], summary["restarts"]) == (6000, 0, 0)
    assert log.stat().st_size > 6000 * 4


def test_a_bundle_that_does_not_fit_its_wiring_is_refused(live, simulate, e4_session):
    with simulate(e4_session, "--device", "bitalino") as device, live(device.port, "--device", "bitalino") as run:
        assert run.end() == 4, "EDA and ECG are no EDA and BVP"
        assert "BITalino" in run.errors


def test_decisions_come_of_a_shimmer3(live, simulate, e4_session):
    board = ["--device", "shimmer3"]
    with (
        simulate(e4_session, *board, "--speed", 10) as device,
        live(device.port, *board, "--give-up", 1) as run,
    ):
        run.until(lambda line: line["type"] == "decision" and line["label"] is not None)
        assert run.end() == 6, "the board is gone at the end"
    assert run.summary["frames"] > 7000
    assert run.summary["frames_lost"] == 0


def test_decisions_come_of_text_lines(live, simulate, e4_session):
    board = ["--device", "lines", "--device-option", "columns=time_ms,eda_us,bvp"]
    with (
        simulate(e4_session, *board, "--speed", 10) as device,
        live(device.port, *board, "--give-up", 1) as run,
    ):
        run.until(lambda line: line["type"] == "decision" and line["label"] is not None)
        assert run.end() == 6, "the board is gone at the end"
    (told,) = run.of("device")
    assert [round(s["rate_hz"]) for s in told["streams"]] == [64, 64]
    assert run.summary["frames"] == 60 * 64
    assert run.summary["malformed"] == 0


def test_what_is_on_the_port_is_found_out(live, simulate, e4_session, tmp_path):
    log = tmp_path / "auto.wire"
    with (
        simulate(e4_session, "--device", "shimmer3", "--speed", 10) as device,
        live(device.port, "--device", "auto", "--record", log, "--give-up", 1) as run,
    ):
        run.until(lambda line: line["type"] == "decision" and line["label"] is not None)
        assert run.end() == 6, "the board is gone at the end"
    assert "shimmer3 at 115200 baud (certain" in run.of("link")[0]["detail"]
    assert read_recording(log).metadata["device"] == "shimmer3"
