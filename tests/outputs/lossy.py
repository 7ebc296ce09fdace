"""Run inside a network namespace of its own whose loopback drops packets: ``python -m tests.outputs.lossy MOSQUITTO FOLDER``.

Prints what a subscriber got, as JSON: the numbers of each kind, in the order in which they came.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from edge_agent.config import MqttConfig
from edge_agent.outputs.mqtt import MqttPublisher
from edge_agent.outputs.outbox import Bounds, Outbox
from tests.outputs.test_mqtt import DEVICE, beat, gap
from tests.spine import listening, running_broker, wait_for

COUNT = 600


def main() -> None:
    mosquitto, folder = sys.argv[1], Path(sys.argv[2])
    with running_broker(mosquitto, folder) as broker, listening(broker.port) as listener:
        box = Outbox(folder / "dev.outbox", Bounds(50_000_000, 1e9))
        publisher = MqttPublisher(MqttConfig(host="127.0.0.1", port=broker.port, qos_beats=1), DEVICE, box)
        publisher.start()
        for number in range(COUNT):
            publisher.event(beat(number))
            publisher.event(gap(number))
        wait_for(lambda: publisher.waiting == 0, "all to be acknowledged", 90)
        wait_for(
            lambda: len(listener.of("bed", "beat")) >= COUNT <= len(listener.of("bed", "gap")), "all to be heard", 90
        )
        publisher.stop(5.0)
        print(json.dumps({kind: [one["seq"] for one in listener.of("bed", kind)] for kind in ("beat", "gap")}))


if __name__ == "__main__":
    main()
