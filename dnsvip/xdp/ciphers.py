"""AES keys of a program by number (programs/cipher.h), used by the kernel's cipher or by tables (programs/aes.h)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

from dnsvip.errors import PlatformError
from dnsvip.xdp.structs import StructType

CRYPTO = Path("/proc/crypto")
SOFTWARE = frozenset({"ecb(aes-fixed-time)", "ecb(aes-generic)"})
"""The kernel's AES without hardware. The table look-ups of the first leak less through the timing of shared caches, and
it takes half as long again as the second; tables in the program take half as long as the second."""


def is_software(crypto: str) -> bool:
    """Whether the kernel has no AES in hardware, by the text of /proc/crypto once a program has used AES."""
    priorities: dict[str, int] = {}
    for entry in crypto.split("\n\n"):
        words = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in entry.splitlines())}
        if words.get("name") == "ecb(aes)" and words.get("type") == "lskcipher":
            priorities[words["driver"]] = int(words["priority"])
    return bool(priorities) and max(priorities, key=lambda driver: priorities[driver]) in SOFTWARE


def has_hardware(crypto: str, aliases: str = "") -> bool:
    """Whether the kernel has AES in hardware, by the text of /proc/crypto, or in a module that it loads when AES is
    first used, by that of modules.alias."""
    drivers = re.findall(r"^name\s*: (?:ecb\()?aes\)?\ndriver\s*: (\S+)$", crypto, re.MULTILINE)
    drivers += re.findall(r"^alias crypto-aes (\S+)$", aliases, re.MULTILINE)
    return any(not re.search("generic|fixed.time|_ti$|lib", driver) for driver in drivers)


class SyscallProgram(Protocol):
    """A SEC("syscall") program, such as `objects.Program`."""

    def call(self, argument: bytes) -> int:
        """Run it with this context; its return value."""
        ...

    def ask(self, argument: bytes) -> tuple[int, bytes]:
        """As `call`, with the context as the program has left it."""
        ...


class Ciphers:
    """Sets keys by the program `set_cipher`, whose argument is `order`. Where the kernel has no AES in hardware, it is
    the faster one, or `tables` if the program has a use for these; `fixed_time` leaves the choice to the kernel."""

    def __init__(
        self, program: SyscallProgram, order: StructType, *, tables: bool = False, fixed_time: bool = False
    ) -> None:
        self._program, self._order, self._fixed_time = program, order, fixed_time
        self._instead = "tables" if tables else "faster"
        self._software: bool | None = None

    def set(self, number: int, key: bytes) -> None:
        """Set a key of 16 bytes; raises PlatformError."""
        error = self._call(number=number, key=key)
        if error:
            raise PlatformError(
                f"the kernel makes no AES context (error {-error}): it needs CONFIG_CRYPTO_AES and CONFIG_CRYPTO_ECB"
            )
        if self._software is None:  # only once there is a context does /proc/crypto list the driver
            self._software = not self._fixed_time and is_software(CRYPTO.read_text())
        if self._software:
            self._call(number=number, key=key, **{self._instead: 1})  # where that fails the first context stays

    def remove(self, number: int) -> None:
        """Remove a key."""
        self._call(number=number, remove=1)

    def _call(self, **members: int | bytes) -> int:
        return self._program.call(self._order.pack_sparse(**members))
