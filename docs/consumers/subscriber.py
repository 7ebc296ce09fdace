"""Every agent's alarms, none missed and none twice. python subscriber.py HOST PORT OWN-CLIENT-ID"""

import json
import sys

import paho.mqtt.client as mqtt

last, holes = {}, {}  # by topic and session: the highest number so far, and those below it that have not come


def on_message(_client, _userdata, message):
    event = json.loads(message.payload)
    key, seq = (message.topic, event["session"]), event["seq"]
    if key not in last:  # what came before the first is not missing, and not known either
        last[key], holes[key] = seq - 1, set(range(max(0, seq - 1000), seq))
    if seq <= last[key] and seq not in holes[key]:
        return  # delivery is at least once: a repeat
    if seq > last[key] + 1:
        print("missing:", seq - last[key] - 1, message.topic, flush=True)
    # A number that was left out may still come, late; of the last thousand, that is.
    holes[key] |= set(range(max(last[key] + 1, seq - 1000), seq))
    last[key] = max(last[key], seq)
    holes[key] = {one for one in holes[key] if last[key] - 1000 <= one != seq}
    print(event["time"], event["stream"], event["priority"], event["kind"], event["state"], flush=True)


# The broker keeps this session, and what comes while we are away, under our own client id.
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=sys.argv[3], clean_session=False)
client.on_connect = lambda *_: client.subscribe("edge-agent/+/+/alarm", qos=1)
client.on_message = on_message
client.connect(sys.argv[1], int(sys.argv[2]))
client.loop_forever()
