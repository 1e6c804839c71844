"""A ward of simulated devices of several kinds: one is unplugged, one dies, one is never there, one goes on."""

import os
import time
from collections import defaultdict
from functools import partial

import numpy as np

from edgepain.firmware_bridge import DeviceSource, read_e4
from edgepain.firmware_bridge.ward import Ward
from edgepain.signal import LinkChange, LinkState, Modality, Samples, StreamEvent


def test_every_fault_is_seen_and_costs_only_its_own_device(e4_session, simulate, tmp_path):
    link = tmp_path / "unplugged"
    play = [e4_session, "--speed", 10, "--duration", 40]
    with (
        simulate(*play, "--link", link, "--unplug", "10:10") as unplugged,
        simulate(e4_session, "--speed", 1) as dying,
        simulate(*play) as sound,
        simulate("--device", "shimmer3", "--loop") as shimmer,
    ):
        opening = {
            "unplugged": partial(DeviceSource, str(link), reconnect_s=2.0),
            "dying": partial(DeviceSource, dying.port, reconnect_s=0.3),
            "sound": partial(DeviceSource, sound.port, reconnect_s=0.3),
            "shimmer": partial(DeviceSource, shimmer.port, device="shimmer3"),
            "missing": partial(DeviceSource, "/dev/nothing"),
        }
        events: dict[str, list[StreamEvent]] = defaultdict(list)
        with Ward(opening) as ward:
            end_s = time.monotonic() + 40
            killed = False
            while time.monotonic() < end_s:
                for name, event in ward.recv(0.2):
                    events[name].append(event)
                if not killed and any(isinstance(event, Samples) for event in events["dying"]):
                    dying.process.kill()
                    dying.process.wait()
                    killed = True
                over = {member.name for member in ward.members() if member.state is LinkState.CLOSED}
                if over == {"unplugged", "dying", "sound", "missing"}:
                    break
            members = {member.name: member for member in ward.members()}
        unplugged.report()
        sound.report()

    def states(name: str) -> list[LinkState]:
        return [event.state for event in events[name] if isinstance(event, LinkChange)]

    assert states("missing") == [LinkState.CLOSED]
    assert "no such port" in members["missing"].detail
    assert states("dying") == [LinkState.CONNECTED, LinkState.LOST, LinkState.CLOSED]
    assert states("unplugged")[:3] == [LinkState.CONNECTED, LinkState.LOST, LinkState.CONNECTED]
    assert members["unplugged"].stats.reconnects == 1
    assert members["shimmer"].state is LinkState.CONNECTED
    assert members["shimmer"].stats.frames > 0
    assert [member.dropped for member in members.values()] == [0] * 5
    expected = read_e4(e4_session).signals[Modality.BVP].values[: 40 * 64]
    whole = [e.values for e in events["sound"] if isinstance(e, Samples) and e.modality is Modality.BVP]
    np.testing.assert_array_equal(np.concatenate(whole), expected)
    assert members["sound"].stats.frames_lost == 0
    assert os.path.lexists(link) is False
