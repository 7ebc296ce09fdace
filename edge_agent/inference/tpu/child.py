"""The process in which the Edge TPU's library lives, so that it may hang, abort or crash without taking anybody with it.

It loads the files that it is given, and runs them on what lies in shared memory. Nothing of this package is imported, and nothing
newer than Python 3.9: it may run in another Python than the daemon, beside the runtime that a given libedgetpu was built for.

A pipe brings what is to be done, ``ASK``: a number, and the slot of a loaded file. Another takes the answers of calls back.

    0, LOAD        a file. By a socket (SOCK_SEQPACKET): JSON {delegate, options, variables}, then the file as a descriptor
                   -> by the socket: JSON {tensors ...} and the shared memory, or {error ...}
    0, slot        a call is about to come: be awake by then
    number, slot   a call -> status, number, nanoseconds in the interpreter [+ why not]

The end of the pipe is the end of this process.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import importlib
import importlib.util
import json
import mmap
import os
import resource
import signal
import socket
import struct
import sys
import time
from typing import Any

RUNTIMES = (
    ("ai-edge-litert", "ai_edge_litert.interpreter"),
    ("tflite-runtime", "tflite_runtime.interpreter"),
    ("tensorflow", "tensorflow.lite.python.interpreter"),
)
"""Best first; as in engine.py."""
REFUSALS = (ImportError, OSError, ValueError, RuntimeError, SystemError, TypeError, AttributeError, MemoryError)
"""What runtimes and delegates raise. Anything else ends this process, and its last line is the reason."""
ASK = struct.Struct("<Ii")
LOAD = -1
ANSWER = struct.Struct("<?IQ")
ALIGNED = 64
MOST_BYTES = 1 << 16
PR_SET_PDEATHSIG = 1


class EdgeTpuDevice(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int), ("path", ctypes.c_char_p))


def devices_of(library: str) -> dict[str, Any]:
    """What libedgetpu itself says: its version, and the devices that it sees. Opens none."""
    try:
        lib = ctypes.CDLL(library)
        lib.edgetpu_version.restype = ctypes.c_char_p
        lib.edgetpu_list_devices.restype = ctypes.POINTER(EdgeTpuDevice)
        lib.edgetpu_list_devices.argtypes = [ctypes.POINTER(ctypes.c_size_t)]
        lib.edgetpu_free_devices.argtypes = [ctypes.POINTER(EdgeTpuDevice)]
    except (OSError, AttributeError) as error:
        return {"error": str(error)}
    count = ctypes.c_size_t()
    found = lib.edgetpu_list_devices(ctypes.byref(count))
    kinds = ("pci", "usb")
    devices = []
    for i in range(count.value):
        kind, path = found[i].type, (found[i].path or b"").decode(errors="replace")
        devices.append({"type": kinds[kind] if kind in (0, 1) else str(kind), "path": path})
    lib.edgetpu_free_devices(found)
    return {"version": lib.edgetpu_version().decode(errors="replace"), "devices": devices}


def devices_of_pycoral() -> dict[str, Any]:
    """The same from Google's pycoral. A package of that name on PyPI is another project's: it is not even imported."""
    spec = importlib.util.find_spec("pycoral")
    folders = (spec.submodule_search_locations or []) if spec is not None else []
    if not any(os.path.isfile(os.path.join(folder, "utils", "edgetpu.py")) for folder in folders):  # noqa: PTH113, PTH118
        return {"error": "Google's pycoral is not installed"}
    try:
        edgetpu = importlib.import_module("pycoral.utils.edgetpu")
        devices = [{"type": str(one["type"]), "path": str(one["path"])} for one in edgetpu.list_edge_tpus()]
        return {"version": str(edgetpu.get_runtime_version()), "devices": devices}
    except REFUSALS as error:  # an installation that is half there
        return {"error": f"{type(error).__name__}: {error}"}


def find_runtime() -> tuple[str, Any]:
    for name, module in RUNTIMES:
        try:
            return name, importlib.import_module(module)
        except ImportError:
            continue
    raise ImportError("no TFLite runtime is installed for " + sys.executable)


class Loaded:
    """One file, the delegate that runs it, and the memory that both processes see."""

    def __init__(self, tflite: bytes, delegate: str, options: dict[str, str], variables: bool) -> None:
        """``variables``: it remembers from call to call, and is made to forget."""
        import numpy as np

        self.runtime, module = find_runtime()
        self._file = tflite  # the interpreter reads from it
        self._delegate = module.load_delegate(delegate, options)
        self.interpreter = module.Interpreter(
            model_content=tflite, num_threads=1, experimental_delegates=[self._delegate]
        )
        self.interpreter.allocate_tensors()
        given, got = self.interpreter.get_input_details(), self.interpreter.get_output_details()
        self.tensors = []
        self._variables = variables
        size = 0
        for kind, details in (("input", given), ("output", got)):
            for detail in details:
                shape = [int(part) for part in detail["shape"]]
                dtype = np.dtype(detail["dtype"])
                self.tensors.append(
                    {
                        "kind": kind,
                        "name": str(detail["name"]),
                        "index": int(detail["index"]),
                        "shape": shape,
                        "shape_signature": [int(part) for part in detail.get("shape_signature", shape)],
                        "dtype": dtype.name,
                        "quantization": [float(detail["quantization"][0]), int(detail["quantization"][1])],
                        "offset": size,
                    }
                )
                size += -(-max(1, int(np.prod(shape)) * dtype.itemsize) // ALIGNED) * ALIGNED
        self.memory = os.memfd_create("edge-agent-tensors", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.memory, size)
        # What can shrink would crash whoever reads beyond its end.
        fcntl.fcntl(self.memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        shared = memoryview(mmap.mmap(self.memory, size))
        self._inputs: list[tuple[memoryview, memoryview]] = []
        self._outputs: list[tuple[memoryview, memoryview]] = []
        for one in self.tensors:
            own = self._own(one["index"])
            pair = shared[one["offset"] : one["offset"] + own.nbytes], own
            (self._inputs if one["kind"] == "input" else self._outputs).append(pair)
        self.size = size

    def _own(self, index: int) -> memoryview:
        """A tensor's memory, where it stays once tensors are allocated.

        An interpreter of which somebody holds an array will not run, so no array is kept. Its set_tensor and get_tensor are right as
        well, but after a pause, when nothing of them is in the caches, they take twice as long as a whole call without them.
        """
        array = self.interpreter.tensor(index)()
        return memoryview((ctypes.c_ubyte * array.nbytes).from_address(array.ctypes.data)).cast("B")

    def rehearse(self) -> None:
        """All of a call but the call, so that nothing of it has to be fetched from memory when it comes."""
        for shared, own in self._inputs:
            own[:] = shared
        for shared, own in self._outputs:
            shared[:] = own
        ANSWER.pack(True, 0, time.perf_counter_ns())

    def invoke(self) -> int:
        """Nanoseconds in the interpreter."""
        interpreter = self.interpreter
        for shared, own in self._inputs:
            own[:] = shared
        if self._variables:
            interpreter.reset_all_variables()
        began = time.perf_counter_ns()
        interpreter.invoke()
        took = time.perf_counter_ns() - began
        for shared, own in self._outputs:
            shared[:] = own
        return took


def _lines(error: BaseException) -> list[str]:
    return [line.strip()[:500] for line in str(error).splitlines() if line.strip()] or [type(error).__name__]


def load(sock: socket.socket, slots: list[Loaded]) -> None:
    asked = json.loads(sock.recv(MOST_BYTES))
    _, files, _, _ = socket.recv_fds(sock, 1, 1)
    try:
        with os.fdopen(files[0], "rb") as file:
            loaded = Loaded(file.read(), asked["delegate"], asked["options"], asked["variables"])
    except REFUSALS as error:
        answer: dict[str, Any] = {"error": f"{type(error).__name__}: {'; '.join(_lines(error)[:3])}"}
        if not isinstance(error, ImportError):
            answer.update(library=devices_of(asked["delegate"]))
        sock.send(json.dumps(answer).encode())
        return
    slots.append(loaded)
    gc.collect()
    gc.freeze()
    said = {"runtime": loaded.runtime, "tensors": loaded.tensors, "size": loaded.size, "slot": len(slots) - 1}
    socket.send_fds(sock, [json.dumps(said).encode()], [loaded.memory])


def serve(sock: socket.socket, asks: int, answers: int) -> None:
    slots: list[Loaded] = []
    # Nothing here makes cycles once a file is loaded, and a collection in the middle of a call would be its delay.
    gc.disable()
    read, write, unpack, pack = os.read, os.write, ASK.unpack, ANSWER.pack
    while True:
        asked = read(asks, ASK.size)
        if not asked:
            return
        number, slot = unpack(asked)
        if number:
            try:
                took = slots[slot].invoke()
            except REFUSALS as error:  # the parent decides what becomes of us
                write(answers, pack(False, number, 0) + _lines(error)[-1].encode())
            else:
                write(answers, pack(True, number, took))
        elif slot == LOAD:
            load(sock, slots)
        else:
            slots[slot].rehearse()


def main(arguments: list[str]) -> int:
    if arguments[0] == "--devices":
        found = devices_of(arguments[1]) if arguments[1] else {"error": "no library"}
        if "error" in found:
            other = devices_of_pycoral()
            found = other if "error" not in other or not arguments[1] else found
        print(json.dumps(found))
        return 0
    # systemd and a terminal send these to all of a group; when to end, and in which order, is the parent's to say.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A TPU that is lost aborts us; a core file each time would fill the disk, and take longer than the fault. 1, not 0: core(5)
    # lets a program that takes them through a pipe have them at 0.
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (min(1, most) if most >= 0 else 1, most))
    # A parent that is killed closes the socket, but a call that hangs would not see it.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(arguments[1]):
        return 0
    with socket.socket(fileno=int(arguments[0])) as sock:
        serve(sock, int(arguments[2]), int(arguments[3]))
    return 0


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    sys.path[:] = [path for path in sys.path if path != here]  # our neighbours' names are not for everybody's imports
    sys.exit(main(sys.argv[1:]))
