"""Every agent's alarms, none missed and none twice. python subscriber.py HOST PORT OWN-CLIENT-ID"""

import json
import sys

import paho.mqtt.client as mqtt

last = {}  # topic: (session, seq)


def on_message(_client, _userdata, message):
    event = json.loads(message.payload)
    session, seq = last.get(message.topic, ("", -1))
    if event["session"] == session and event["seq"] <= seq:
        return  # delivery is at least once: a repeat
    if event["session"] == session and event["seq"] > seq + 1:
        print("missing:", event["seq"] - seq - 1, message.topic, flush=True)
    last[message.topic] = (event["session"], event["seq"])
    print(event["time"], event["stream"], event["priority"], event["kind"], event["state"], flush=True)


# The broker keeps this session, and what comes while we are away, under our own client id.
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=sys.argv[3], clean_session=False)
client.on_connect = lambda *_: client.subscribe("edge-agent/+/+/alarm", qos=1)
client.on_message = on_message
client.connect(sys.argv[1], int(sys.argv[2]))
client.loop_forever()
