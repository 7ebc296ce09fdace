"""What a compiled file says of its part for the Edge TPU: which runtime it wants, who compiled it, what it caches.

The operator ``edgetpu-custom-op`` carries a FlexBuffers map whose key "4" is a FlatBuffer ``Package`` (libedgetpu's executable.fbs).
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.inference.tflite.flat import Damaged, Table, flex_strings, root

NEWEST_RUNTIME = 14
"""Of the last public libedgetpu (16.0)."""
_IDENTIFIER = b"DWN1"
_KINDS = {0: "stand-alone", 1: "parameter caching", 2: "execution only"}


@dataclass(frozen=True, slots=True)
class Executable:
    kind: str
    """stand-alone; parameter caching (loads the weights once) and execution only (runs on them)."""
    parameter_bytes: int
    """Weights, as the chip keeps or is sent them."""
    instruction_bytes: int
    scratch_bytes: int
    token: int
    """Files with the same one were compiled together and keep their weights beside each other; 0: none."""
    chip: str


@dataclass(frozen=True, slots=True)
class Package:
    operator: int
    """Which of the file's operators it is."""
    minimum_runtime: int | None
    compiler: str
    executables: tuple[Executable, ...] = ()
    problem: str = ""
    """Why it could not be read (whole)."""

    @property
    def cached_bytes(self) -> int:
        return sum(one.parameter_bytes for one in self.executables if one.kind == "parameter caching")


def package_of(operator: int, options: memoryview | None) -> Package:
    """Never raises: what cannot be read is said."""
    try:
        table = root(_content(options), _IDENTIFIER)
        runtime, compiler = table.number(0, "int32"), table.text(4)
    except Damaged as error:
        return Package(operator, None, "", problem=f"its package cannot be read ({error})")
    try:
        return Package(operator, runtime, compiler, tuple(_executables(table)))
    except Damaged as error:
        return Package(operator, runtime, compiler, problem=f"its executables cannot be read ({error})")


def _content(options: memoryview | None) -> memoryview:
    if options is None or not len(options):
        raise Damaged("no options")
    try:
        found = flex_strings(options).get("4")
        if found is not None:
            return found
    except Damaged:
        pass
    at = bytes(options).find(_IDENTIFIER)  # as written by a compiler that we have not seen
    if at < 4:
        raise Damaged("no package in its options")
    return options[at - 4 :]


def _executables(package: Table) -> list[Executable]:
    several = package.raw(1)
    if several is None:
        return []
    return [_executable(root(content, None)) for content in root(several, None).raws(0)]


def _executable(table: Table) -> Executable:
    kind = table.number(13, "int16")
    return Executable(
        kind=_KINDS.get(kind, f"of kind {kind}"),
        parameter_bytes=len(table.raw(6) or b""),
        instruction_bytes=sum(len(part.raw(0) or b"") for part in table.tables(5)),
        scratch_bytes=table.number(4, "int32"),
        token=table.number(14, "uint64"),
        chip=table.text(10),
    )
