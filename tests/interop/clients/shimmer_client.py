"""pyshimmer against the Shimmer3 on the port given: sets it up, streams 2 s, prints what came as JSON."""

import json
import sys
import time

import serial
from pyshimmer import EChannelType, ShimmerBluetooth
from pyshimmer.dev.channels import ESensorGroup

port, unit = sys.argv[1:]
packets = []
with ShimmerBluetooth(serial.Serial(port, 115_200)) as shimmer:
    firmware = shimmer.get_firmware_version()
    shimmer.set_sampling_rate(128.0)
    if unit == "gsr":
        shimmer.set_sensors([ESensorGroup.GSR, ESensorGroup.CH_A13])
        wanted, gain = [EChannelType.GSR_RAW, EChannelType.INTERNAL_ADC_13], None
    else:
        shimmer.set_sensors([ESensorGroup.EXG1_24BIT])
        shimmer.set_exg_register(0, 3, bytes([0x60, 0x60]))
        gain = shimmer.get_exg_register(0).ch1_gain
        wanted = [EChannelType.EXG_ADS1292R_1_CH1_24BIT, EChannelType.EXG_ADS1292R_1_CH2_24BIT]
    rate_hz, _, channels = shimmer.get_inquiry()
    shimmer.add_stream_callback(packets.append)
    shimmer.start_streaming()
    time.sleep(2.0)
    shimmer.stop_streaming()
    sys.stdout.write(
        json.dumps(
            {
                "firmware": [firmware[0].name, str(firmware[1].major), str(firmware[1].minor), str(firmware[1].rel)],
                "rate_hz": rate_hz,
                "channels": [channel.name for channel in channels],
                "gain": gain,
                "times": [packet[EChannelType.TIMESTAMP] for packet in packets],
                "values": [[packet[channel] for channel in wanted] for packet in packets],
            }
        )
        + "\n"
    )
