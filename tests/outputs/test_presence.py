"""What others see of the agent after each way of going and coming: will, birth and retained state, in one table."""

from __future__ import annotations

import contextlib
import selectors
import signal
import socket
import threading
from pathlib import Path

from tests.spine import (
    Broker,
    base_config,
    free_port,
    listening,
    retained_now,
    running_agent,
    simulated,
    wait_for,
)

STATE = "edge-agent/dev/bridge/state"
RETAINED = {
    STATE,
    *(f"edge-agent/dev/{part}" for part in ("bridge/info", "bridge/health", "bed/availability", "bed/state")),
}


class Cable:
    """A TCP connection that can be cut without anybody being told: bytes simply stop."""

    def __init__(self, to: int) -> None:
        self.port = free_port()
        self.cut = threading.Event()
        self._to = to
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)
        self._listener.close()

    def _run(self) -> None:
        peers: dict[socket.socket, socket.socket] = {}
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._stop.is_set():
                for key, _ in selector.select(0.05):
                    if self.cut.is_set():
                        self._stop.wait(0.05)
                    elif key.fileobj is self._listener:
                        one = self._listener.accept()[0]
                        other = socket.create_connection(("127.0.0.1", self._to))
                        for here, there in ((one, other), (other, one)):
                            peers[here] = there
                            selector.register(here, selectors.EVENT_READ)
                    else:
                        self._pass(key.fileobj, peers, selector)  # type: ignore[arg-type]
            for sock in peers:
                sock.close()

    @staticmethod
    def _pass(sock: socket.socket, peers: dict[socket.socket, socket.socket], selector: selectors.BaseSelector) -> None:
        data = b""
        with contextlib.suppress(OSError):
            data = sock.recv(65536)
        if data:
            with contextlib.suppress(OSError):
                peers[sock].sendall(data)
            return
        for end in (sock, peers[sock]):
            selector.unregister(end)
            end.close()
        del peers[peers[sock]], peers[sock]


def all_there(port: int) -> None:
    wait_for(
        lambda: set(retained_now(port)) >= RETAINED and retained_now(port)[STATE] == {"state": "online"}, "all of it"
    )


def test_clean_stop(broker: Broker, tmp_path: Path) -> None:
    with listening(broker.port) as listener:
        with running_agent(tmp_path, base_config(broker.port, simulated("bed"))) as agent:
            all_there(broker.port)
            agent.signal(signal.SIGTERM)
            assert agent.wait() == 0
        listener.wait("bridge", "state", state="offline")
        kept = retained_now(broker.port)
        assert kept[STATE] == {"state": "offline"}
        assert kept["edge-agent/dev/bed/availability"]["state"] == "offline"
        assert kept["edge-agent/dev/bed/availability"]["reason"] == "agent stopped"
        # Said, not willed: once.
        assert [one["state"] for one in listener.of("bridge", "state")] == ["online", "offline"]


def test_kill_and_a_new_start(broker: Broker, tmp_path: Path) -> None:
    text = base_config(broker.port, simulated("bed"))
    with running_agent(tmp_path, text) as agent:
        all_there(broker.port)
        agent.signal(signal.SIGKILL)
        agent.wait()
        wait_for(lambda: retained_now(broker.port)[STATE] == {"state": "offline"}, "the will")
    with running_agent(tmp_path, text):
        all_there(broker.port)


def test_broker_restart(broker: Broker, tmp_path: Path) -> None:
    with running_agent(tmp_path, base_config(broker.port, simulated("bed"))):
        all_there(broker.port)
        broker.stop()  # it keeps nothing
        broker.start()
        all_there(broker.port)


def test_link_cut_and_back(broker: Broker, tmp_path: Path) -> None:
    cable = Cable(broker.port)
    try:
        with running_agent(tmp_path, base_config(cable.port, simulated("bed"), mqtt="keepalive_s = 5")) as agent:
            all_there(broker.port)
            cable.cut.set()
            # Neither end is told; the broker's patience ends after one and a half keepalives, and the will speaks.
            wait_for(lambda: retained_now(broker.port)[STATE] == {"state": "offline"}, "the will", 60)
            agent.wait_log("lost the broker", 60)
            cable.cut.clear()
            all_there(broker.port)
    finally:
        cable.close()
