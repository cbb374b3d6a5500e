"""Object files and programs: open an object, prepare it, load it into the kernel, and run its programs.

    with Object.open("empty") as opened:
        opened.load()
        opened.program("dnsvip_empty").run(packet)

Between `open` and `load` maps can be resized, given values or replaced by existing maps. A rejection by the verifier is
one KernelRefused with the end of its log.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Self

from dnsvip.errors import PlatformError
from dnsvip.xdp.btf import Btf
from dnsvip.xdp.libbpf import KernelRefused, captured_log, check, check_pointer, library, open_pin, pin, query_info
from dnsvip.xdp.libbpf_structs import OpenOptions, ProgramInfo, TestRunOptions
from dnsvip.xdp.maps import Map

XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT = range(5)
"""Return values of an XDP program (enum xdp_action)."""
ALONE = ".data."
"""How the names of sections begin that hold one variable each."""
ROOM = 256
"""Bytes that a program may add to a packet in `run`."""
MOST_MAPS = 64
"""Maps that one program can use (MAX_USED_MAPS)."""


@cache
def object_file(name: str) -> bytes:
    """The compiled object of `name`.bpf.c, read once, so that a process keeps the program and types it started with
    while the package is upgraded. Raises PlatformError where it was not built."""
    try:
        return (files("dnsvip.xdp") / "programs" / f"{name}.bpf.o").read_bytes()
    except FileNotFoundError:
        raise PlatformError(
            f"this installation has no kernel programs ({name}.bpf.o): it was built without clang 19; "
            "as root: apt-get install clang-19 libbpf-dev linux-libc-dev, then install dnsvip again "
            '(or use mode = "user")'
        ) from None


@dataclass(frozen=True, slots=True)
class Run:
    """The return value of a program (XDP_* for XDP), the packet as it left it, and nanoseconds per repetition."""

    result: int
    data: bytes
    ns: int


class Program:
    """One loaded program; takes over the descriptor."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        info = self.information()
        self.name: str = info.name.decode()
        self.id: int = info.id
        self.tag: str = bytes(info)[ProgramInfo.tag.offset :][:8].hex()

    @classmethod
    def pinned(cls, path: Path) -> Self:
        """The program pinned at `path`; raises KernelRefused."""
        return cls(open_pin(path))

    @classmethod
    def by_id(cls, number: int) -> Self:
        """A program by its number in the kernel; raises KernelRefused."""
        return cls(check(library().bpf_prog_get_fd_by_id(number), f"opening program {number}"))

    def information(self) -> ProgramInfo:
        """The kernel's information about it; with kernel.bpf_stats_enabled including run count and run time."""
        info = ProgramInfo()
        query_info(self.fd, info)
        return info

    @property
    def map_ids(self) -> frozenset[int]:
        """The kernel's numbers of the maps that it uses itself."""
        numbers = (ctypes.c_uint32 * MOST_MAPS)()
        info = ProgramInfo(nr_map_ids=MOST_MAPS, map_ids=ctypes.addressof(numbers))
        query_info(self.fd, info)
        return frozenset(numbers[: info.nr_map_ids])

    def pin(self, path: Path) -> None:
        """Pin the program in bpffs; raises KernelRefused."""
        pin(self.fd, path)

    def close(self) -> None:
        """Close the descriptor."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def run(self, packet: bytes, *, repeat: int = 1, context: bytes = b"", cpu: int | None = None) -> Run:
        """Run it on a packet (BPF_PROG_TEST_RUN); `context` is a `struct xdp_md`. Raises KernelRefused."""
        out = ctypes.create_string_buffer(len(packet) + ROOM)
        options = self._options(context, repeat=repeat)
        options.data_in = ctypes.cast(ctypes.c_char_p(packet), ctypes.c_void_p)
        options.data_size_in = len(packet)
        options.data_out = ctypes.cast(out, ctypes.c_void_p)
        options.data_size_out = len(out)
        if cpu is not None:
            options.cpu, options.flags = cpu, 1  # BPF_F_TEST_RUN_ON_CPU
        check(library().bpf_prog_test_run_opts(self.fd, ctypes.byref(options)), f"running {self.name}")
        return Run(options.retval, out.raw[: options.data_size_out], options.duration)

    def call(self, argument: bytes) -> int:
        """Run a SEC("syscall") program with this context; its return value. Raises KernelRefused."""
        options = self._options(argument)
        check(library().bpf_prog_test_run_opts(self.fd, ctypes.byref(options)), f"running {self.name}")
        return int(ctypes.c_int32(options.retval).value)

    def ask(self, argument: bytes) -> tuple[int, bytes]:
        """As `call`, with the context as the program has left it."""
        buffer = ctypes.create_string_buffer(argument, len(argument))
        options = TestRunOptions(sz=ctypes.sizeof(TestRunOptions), ctx_size_in=len(argument))
        options.ctx_in = ctypes.cast(buffer, ctypes.c_void_p)
        check(library().bpf_prog_test_run_opts(self.fd, ctypes.byref(options)), f"running {self.name}")
        return int(ctypes.c_int32(options.retval).value), buffer.raw

    @staticmethod
    def _options(context: bytes, *, repeat: int = 0) -> TestRunOptions:
        options = TestRunOptions(sz=ctypes.sizeof(TestRunOptions), repeat=repeat)
        if context:
            options.ctx_in = ctypes.cast(ctypes.c_char_p(context), ctypes.c_void_p)
            options.ctx_size_in = len(context)
        return options


class Object:
    """An object file: `open`, prepare, `load`, then get its programs and maps, which outlive `close`."""

    def __init__(self, handle: int, name: str) -> None:
        self._handle = handle
        self._name = name
        self._programs = {library().bpf_program__name(handle).decode(): handle for handle in self._handles("program")}
        self._maps = {_named(handle): handle for handle in self._handles("map")}

    @classmethod
    def open(cls, name: str, data: bytes | None = None) -> Self:
        """The object of `name`.bpf.c in this package, or one in `data`; raises PlatformError."""
        content = object_file(name) if data is None else data
        options = OpenOptions(sz=ctypes.sizeof(OpenOptions), object_name=name[:15].encode())
        with captured_log() as log_lines:
            handle = library().bpf_object__open_mem(content, len(content), ctypes.byref(options))
            if not handle:
                raise KernelRefused(f"{name}.bpf.o cannot be read", ctypes.get_errno(), "".join(log_lines))
        return cls(handle, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; programs and maps from it stay open."""
        if self._handle:
            library().bpf_object__close(self._handle)
            self._handle = 0

    @property
    def btf(self) -> Btf:
        """The types of the object, while it is open."""
        return Btf(check_pointer(library().bpf_object__btf(self._handle), f"{self._name}: no BTF"))

    @property
    def programs(self) -> list[str]:
        """The names of the programs."""
        return list(self._programs)

    @property
    def maps(self) -> list[str]:
        """The names of the maps, those of global variables (NAME.bss, .rodata) included."""
        return list(self._maps)

    def only(self, *programs: str) -> None:
        """Load only these programs."""
        for name, handle in self._programs.items():
            check(library().bpf_program__set_autoload(handle, name in programs), f"choosing {name}")

    def resize(self, name: str, entries: int) -> None:
        """Set the number of entries of a map."""
        check(library().bpf_map__set_max_entries(self._map(name), entries), f"sizing map {name}")

    def entries(self, name: str) -> int:
        """The number of entries that a map will have."""
        return int(library().bpf_map__max_entries(self._map(name)))

    def reuse(self, name: str, existing: Map) -> None:
        """Use an existing map instead of a new one; raises KernelRefused where their definitions differ."""
        check(library().bpf_map__reuse_fd(self._map(name), existing.fd), f"taking over map {name}")

    def set_variable(self, name: str, value: bytes) -> None:
        """Set a global constant or variable before loading; raises PlatformError where there is none of that size."""
        section, offset, size = self.btf.variable(name)
        if size != len(value):
            raise PlatformError(f"{self._name}: variable {name} has {size} bytes, not {len(value)}")
        handle = next((h for n, h in self._maps.items() if section in (ALONE + n, "." + n.rpartition(".")[2])), None)
        if handle is None:
            raise PlatformError(f"{self._name}: no section {section}")
        length = ctypes.c_size_t()
        start = check_pointer(library().bpf_map__initial_value(handle, ctypes.byref(length)), f"setting {name}")
        ctypes.memmove(start + offset, value, size)

    def load(self) -> None:
        """Load everything into the kernel; raises KernelRefused with the end of the verifier's log."""
        with captured_log() as log_lines:
            result = library().bpf_object__load(self._handle)
            if result < 0:
                raise KernelRefused(f"the kernel rejects {self._name}.bpf.o", -result, "".join(log_lines))

    def program(self, name: str) -> Program:
        """A loaded program, with a descriptor of its own."""
        if name not in self._programs:
            raise PlatformError(f"{self._name}.bpf.o has no program {name}; there is: {', '.join(self._programs)}")
        return Program(os.dup(check(library().bpf_program__fd(self._programs[name]), f"{name} is not loaded")))

    def map(self, name: str) -> Map:
        """A map of a loaded object, with a descriptor of its own."""
        return Map(os.dup(check(library().bpf_map__fd(self._map(name)), f"map {name} is not loaded")))

    def layout(self, name: str) -> str:
        """The definition of a map as text: type, sizes, flags, and the types of key and value."""
        lib, handle = library(), self._map(name)
        definition = [lib.bpf_map__type(handle), lib.bpf_map__key_size(handle), lib.bpf_map__value_size(handle)]
        definition.append(lib.bpf_map__map_flags(handle))
        types = (lib.bpf_map__btf_key_type_id(handle), lib.bpf_map__btf_value_type_id(handle))
        return " ".join([*map(str, definition), *(self.btf.describe(number) for number in types if number)])

    def _map(self, name: str) -> int:
        if name not in self._maps:
            raise PlatformError(f"{self._name}.bpf.o has no map {name}; there is: {', '.join(self._maps)}")
        return self._maps[name]

    def _handles(self, kind: str) -> Iterator[int]:
        next_handle = getattr(library(), f"bpf_object__next_{kind}")
        handle = next_handle(self._handle, None)
        while handle:
            yield handle
            handle = next_handle(self._handle, handle)


def _named(handle: int) -> str:
    """The name of a map; that of a section of one variable (ALONE in types.h) is the variable's."""
    name: str = library().bpf_map__name(handle).decode()
    return name.removeprefix(ALONE)
