"""``python -m edge_agent``."""

import sys

from edge_agent.entry import agent

if __name__ == "__main__":
    sys.exit(agent())
