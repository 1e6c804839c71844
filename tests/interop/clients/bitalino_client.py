"""The bitalino package against the port given: version, then a second at 1000 Hz, printed as JSON."""

import json
import sys

from bitalino import BITalino

device = BITalino(sys.argv[1], 5)
version = device.version()
device.start(1000, [1, 2])
data = device.read(1000)
device.stop()
device.close()
sys.stdout.write(json.dumps({"version": version, "data": data.tolist()}) + "\n")
