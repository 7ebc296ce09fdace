"""The daemon's end of the Edge TPU's process: started, fed through shared memory, watched, and killed when it does not answer.

Nothing here waits longer than it is told to, whatever the other process does. What goes wrong is a :class:`TpuFault` with a reason
for people; after one the process is of no more use: an interpreter that failed once says so at greater length each time.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.errors import ArtifactError, EngineError
from edge_agent.inference.tpu.child import ANSWER, ASK, LOAD, MOST_BYTES

CHILD = Path(__file__).with_name("child.py")
MOST_ANSWER = 4096
"""Of a call. Room for more would be made, and touched, at every one."""
AWAKE_NS = 200_000
"""Who waits for a brief call looks for its answer so long before going to sleep: waking takes as long as the call."""
BRIEF_NS = 300_000
"""Of a longer call the waking is a small part, and looking for so long would be the processor's time for nothing."""
MOST_SHARED = 64 * 1024 * 1024
MOST_SAID = 1 << 20
"""Of what a library prints: kept in memory for the reason, emptied beyond this."""
REAP_S = 2.0
"""A killed process that the kernel holds in an endless wait for USB is left to it, and looked at again later."""


ENDED = "ended"
"""The whole reason where nothing more is known yet: ``epitaph`` tells."""


class TpuFault(EngineError):
    """The TPU, its library or its process failed; the text is the reason."""


class TpuHung(TpuFault):
    """Loading does not come to an end: what a device does, not a file."""


class TpuLate(RuntimeError):
    """The answer has not come within the limit; the process may still work on it."""


class Remote:
    """A loaded file, as an interpreter that lives elsewhere: :class:`~edge_agent.inference.binding.Bound` feeds it like any other."""

    def __init__(self, process: TpuProcess, said: dict[str, Any], memory: mmap.mmap) -> None:
        self.process = process
        self.runtime = str(said["runtime"])
        self.limit_s = 0.0
        """A call is given up on after so long; set by whoever calls."""
        self._slot = int(said["slot"])
        self._details: dict[str, list[dict[str, Any]]] = {"input": [], "output": []}
        self.arrays: dict[int, np.ndarray[Any, Any]] = {}
        """The tensors, by index: what is written there needs no ``set_tensor``."""
        for detail in said["tensors"]:
            shape, dtype = [int(size) for size in detail["shape"]], np.dtype(str(detail["dtype"]))
            view = np.frombuffer(memory, dtype, math.prod(shape), int(detail["offset"]))
            self.arrays[int(detail["index"])] = view.reshape(shape)
            self._details[detail["kind"]].append({**detail, "dtype": dtype.type})

    def get_input_details(self) -> list[dict[str, Any]]:
        return self._details["input"]

    def get_output_details(self) -> list[dict[str, Any]]:
        return self._details["output"]

    def set_tensor(self, index: int, values: np.ndarray[Any, Any]) -> None:
        own = self.arrays[index]
        if values is not own:
            own[...] = values

    def wake(self) -> None:
        """A call is about to come: the process wakes while its inputs are still being written."""
        self.process.wake(self._slot)

    def invoke(self) -> None:
        """TpuLate or TpuFault."""
        self.process.begin(self._slot)
        if not self.process.answered(self.limit_s):
            raise TpuLate

    def get_tensor(self, index: int) -> np.ndarray[Any, Any]:
        """As it is until the next call."""
        return self.arrays[index]

    def reset_all_variables(self) -> None:
        """Done at every call, over there."""


class TpuProcess:
    """One child, one TPU, any number of files. One thread at a time may use it."""

    def __init__(self, python: Path | None = None) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        asks, self._asks = os.pipe()
        self._answers, answers = os.pipe()
        self._said = os.memfd_create("edge-agent-tpu-said", os.MFD_CLOEXEC)
        fcntl.fcntl(self._said, fcntl.F_SETFL, os.O_APPEND)
        self._waiting: int | None = None  # the number of a call that has not been answered
        self._began = 0.0
        self._number = 0
        self.own_ns = 0
        """What the last call took inside the interpreter."""
        self._poll = select.poll()
        self._poll.register(self._answers, select.POLLIN)
        given = [theirs.fileno(), asks, answers]
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [str(python or sys.executable), str(CHILD), str(given[0]), str(os.getpid()), *map(str, given[1:])],
                    stdin=subprocess.DEVNULL,
                    stdout=self._said,
                    stderr=self._said,
                    pass_fds=given,
                    process_group=0,  # of the same session: the kernel shares its time out by sessions
                )
        except OSError as error:
            self._close()
            raise TpuFault(f"no process for the TPU: {error.strerror or error}") from None
        finally:
            os.close(asks)
            os.close(answers)

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        """For who wants to wait until it ends: poll() reports POLLHUP."""
        return self._answers

    # -- loading -------------------------------------------------------------------------------------------------

    def load(
        self,
        tflite: bytes,
        delegate: str,
        options: dict[str, str],
        limit_s: float,
        where: str = "model",
        *,
        variables: bool = True,
    ) -> Remote:
        """A file into the TPU's process; ArtifactError if it is not what the manifest may describe.

        ``variables``: whether it may remember from call to call, and is to be made to forget.
        """
        deadline = time.monotonic() + limit_s
        with self._file(tflite) as file:
            try:
                os.write(self._asks, ASK.pack(0, LOAD))
                asked = {"delegate": delegate, "options": options, "variables": variables}
                self._socket.send(json.dumps(asked).encode())
                socket.send_fds(self._socket, [b"F"], [file])
            except OSError:
                raise TpuFault(f"loading: {self.epitaph()}") from None
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if not poll.poll(max(0, math.ceil((deadline - time.monotonic()) * 1000))):
            raise TpuHung(f"hung: loading took more than {limit_s:g} s; may this user open the device?")
        try:
            answer, files, _, _ = socket.recv_fds(self._socket, MOST_BYTES, 1)
        except OSError:
            answer, files = b"", []
        if not answer:
            raise TpuFault(f"loading: {self.epitaph()}")
        try:
            said = json.loads(answer)
            if "error" in said:
                raise TpuFault(_refusal(said))
            return self._shared(said, files, where)
        finally:
            for one in files:
                os.close(one)

    @staticmethod
    @contextlib.contextmanager
    def _file(tflite: bytes) -> Any:
        """The verified bytes themselves, not a path that may lead to others by now."""
        file = os.memfd_create("edge-agent-model", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(file), "wb") as writer:
                writer.write(tflite)
            os.lseek(file, 0, os.SEEK_SET)
            yield file
        finally:
            os.close(file)

    def _shared(self, said: dict[str, Any], files: Sequence[int], where: str) -> Remote:
        size = int(said["size"])
        if not files or not 0 < size <= MOST_SHARED or os.fstat(files[0]).st_size < size:
            raise ArtifactError(f"{where}: its tensors take {size} bytes, over {MOST_SHARED >> 20} MiB")
        return Remote(self, said, mmap.mmap(files[0], size))

    # -- calling -------------------------------------------------------------------------------------------------

    @property
    def waited_s(self) -> float:
        """For how long a call has not been answered; 0 when there is none."""
        return time.monotonic() - self._began if self._waiting is not None else 0.0

    def ready(self) -> bool:
        """Whether it may be asked: False while an earlier call, given up on, has not been answered."""
        return self._waiting is None or self.answered(0)

    def wake(self, slot: int) -> None:
        """A call of this file is about to come. Only where ``ready``."""
        with contextlib.suppress(OSError):  # the call will say it
            os.write(self._asks, ASK.pack(0, slot))

    def begin(self, slot: int) -> None:
        """Ask for what lies in the shared memory; ``answered`` waits."""
        self._number = (self._number & 0x7FFFFFFF) + 1  # never 0
        self._began = time.monotonic()
        self._waiting = self._number
        try:
            os.write(self._asks, ASK.pack(self._number, slot))
        except OSError:
            raise TpuFault(ENDED) from None

    def answered(self, limit_s: float) -> bool:
        """Whether the answer has come, or comes within this time of the call's beginning; TpuFault if it is none."""
        poll = self._poll.poll
        wait_ms = math.ceil(limit_s * 1000)
        if wait_ms and self.own_ns < BRIEF_NS:
            self._look_out(min(AWAKE_NS, round(limit_s * 1e9)))
        while True:
            if not poll(wait_ms):
                return False
            message = os.read(self._answers, MOST_ANSWER)
            if not message:
                raise TpuFault(ENDED)
            well, number, self.own_ns = ANSWER.unpack_from(message)
            if number != self._waiting:  # of a call that was given up on
                wait_ms = max(0, math.ceil((self._began + limit_s - time.monotonic()) * 1000))
                continue
            self._waiting = None
            if not well:
                raise TpuFault(f"failed at a call: {message[ANSWER.size :].decode(errors='replace')}")
            return True

    def _look_out(self, most_ns: int) -> None:
        """Until there is something to be read, without sleeping; whoever else wants this processor gets it in between."""
        poll, let_others, now_ns = self._poll.poll, os.sched_yield, time.perf_counter_ns
        ends = now_ns() + most_ns
        while not poll(0) and now_ns() < ends:
            let_others()

    # -- the end -------------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """At once, from any thread; ``reap`` clears up."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def epitaph(self) -> str:
        """How it ended by itself, and the last that its library said. Waits for the end a moment, if it is near."""
        try:
            code = self._process.wait(REAP_S)
        except subprocess.TimeoutExpired:
            return "closed its end without ending"
        how = f"ended with status {code}"
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            how = {"SIGABRT": "aborted", "SIGSEGV": "crashed"}.get(name, "was killed") + f" ({name})"
        last = self._last_said()
        return f"{how}: {last}" if last else how

    def _last_said(self) -> str:
        size = os.fstat(self._said).st_size
        text = os.pread(self._said, 2000, max(0, size - 2000)).decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return "".join(char for char in lines[-1] if char.isprintable())[:300] if lines else ""

    def tidy(self) -> None:
        """What the library prints over months must not fill the memory."""
        if os.fstat(self._said).st_size > MOST_SAID:
            os.ftruncate(self._said, 0)

    def reap(self) -> bool:
        """Kill, wait a moment, free everything; False if the kernel has not let go of it yet: ask again later."""
        self.kill()
        try:
            self._process.wait(REAP_S)
        except subprocess.TimeoutExpired:
            return False
        self._close()
        return True

    def _close(self) -> None:
        self._socket.close()
        for one in (self._asks, self._answers, self._said):
            if one >= 0:
                os.close(one)
        self._asks = self._answers = self._said = -1


def _refusal(said: dict[str, Any]) -> str:
    """What the runtime said, and what libedgetpu knows about why."""
    text = f"refused: {said['error']}"
    library = said.get("library") or {}
    if "version" in library:
        count = len(library["devices"])
        devices = "sees no device" if not count else f"sees {count} device{'s' if count > 1 else ''}"
        text += f" (libedgetpu {library['version']} {devices})"
    return text


def ask_devices(library: str, python: Path | None = None, limit_s: float = 5.0) -> dict[str, Any]:
    """Version and devices as libedgetpu (or else Google's pycoral) tells them, asked in a process of its own."""
    try:
        done = subprocess.run(
            [str(python or sys.executable), str(CHILD), "--devices", library],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit_s,
            check=False,
        )
        found = json.loads(done.stdout) if done.returncode == 0 else {}
    except subprocess.TimeoutExpired:
        return {"error": f"no answer in {limit_s:g} s"}
    except (OSError, ValueError) as error:
        return {"error": str(error)}
    if not isinstance(found, dict) or not found:
        return {"error": f"the library ended its process ({done.returncode})"}
    return found
