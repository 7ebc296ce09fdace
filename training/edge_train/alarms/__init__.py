"""The learned part of the second opinion on alarms."""
