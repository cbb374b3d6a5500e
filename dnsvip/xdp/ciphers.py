"""AES keys of a program by number (programs/cipher.h): whether the kernel's cipher uses them, or tables (programs/aes.h)."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from dnsvip.errors import PlatformError
from dnsvip.xdp.structs import StructType

CRYPTO = Path("/proc/crypto")
SOFTWARE = frozenset({"ecb(aes-fixed-time)", "ecb(aes-generic)"})
"""The kernel's AES without hardware. The table look-ups of the first leak less through the timing of shared caches, and it
takes half as long again as the second; tables in the program take half as long as the second."""


def is_software(crypto: str) -> bool:
    """Whether the kernel has no AES in hardware, by the text of /proc/crypto once a program has used AES."""
    priorities: dict[str, int] = {}
    for entry in crypto.split("\n\n"):
        words = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in entry.splitlines())}
        if words.get("name") == "ecb(aes)" and words.get("type") == "lskcipher":
            priorities[words["driver"]] = int(words["priority"])
    return bool(priorities) and max(priorities, key=lambda driver: priorities[driver]) in SOFTWARE


class SyscallProgram(Protocol):
    """A SEC("syscall") program, such as `objects.Program`."""

    def call(self, argument: bytes) -> int:
        """Run it with this context; its return value."""
        ...

    def ask(self, argument: bytes) -> tuple[int, bytes]:
        """As `call`, with the context as the program has left it."""
        ...


class Ciphers:
    """Sets keys by the program `set_cipher`, whose argument is `order`. `fixed_time` leaves AES to the kernel even where
    that has none in hardware."""

    def __init__(self, program: SyscallProgram, order: StructType, *, fixed_time: bool = False) -> None:
        self._program, self._order, self._fixed_time = program, order, fixed_time
        self._tables: bool | None = None

    def set(self, number: int, key: bytes) -> None:
        """Set a key of 16 bytes; raises PlatformError."""
        error = self._call(number=number, key=key)
        if error:
            raise PlatformError(
                f"the kernel makes no AES context (error {-error}): it needs CONFIG_CRYPTO_AES and CONFIG_CRYPTO_ECB"
            )
        if self._tables is None:  # only once there is a context does /proc/crypto list the driver
            self._tables = not self._fixed_time and is_software(CRYPTO.read_text())
        if self._tables:
            self._call(number=number, key=key, tables=1)

    def remove(self, number: int) -> None:
        """Remove a key."""
        self._call(number=number, remove=1)

    def _call(self, **members: int | bytes) -> int:
        return self._program.call(self._order.pack_sparse(**members))
