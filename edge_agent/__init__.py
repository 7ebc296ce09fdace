"""Edge Agent: a daemon that turns ECG and arterial-pressure samples into beats, classes and alarms over MQTT."""

__version__ = "0.1.0"
