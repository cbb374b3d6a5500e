"""AES contexts of a program by number (programs/cipher.h): which of the kernel's ciphers makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from dnsvip.errors import PlatformError
from dnsvip.xdp.structs import StructType

CRYPTO = Path("/proc/crypto")
FIXED_TIME, FASTER = "ecb(aes-fixed-time)", "ecb(aes-generic)"
"""Two software ciphers of the kernel; some kernels prefer the first. Its table look-ups leak less through the timing of
shared caches, and it takes half as long again."""


def prefers_fixed_time(crypto: str) -> bool:
    """Whether the kernel uses FIXED_TIME for AES, by the text of /proc/crypto: it has no AES in hardware."""
    priorities: dict[str, int] = {}
    for entry in crypto.split("\n\n"):
        words = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in entry.splitlines())}
        if words.get("name") == "ecb(aes)" and words.get("type") == "lskcipher":
            priorities[words["driver"]] = int(words["priority"])
    return bool(priorities) and max(priorities, key=lambda driver: priorities[driver]) == FIXED_TIME


class SyscallProgram(Protocol):
    """A SEC("syscall") program, such as `objects.Program`."""

    def call(self, argument: bytes) -> int:
        """Run it with this context; its return value."""
        ...


class Ciphers:
    """Sets the contexts by the program `set_cipher`, whose argument is `order`. `fixed_time` leaves the choice of AES
    to the kernel even where it prefers the slower one (FIXED_TIME)."""

    def __init__(self, program: SyscallProgram, order: StructType, *, fixed_time: bool = False) -> None:
        self._program, self._order, self._fixed_time = program, order, fixed_time
        self._faster: bool | None = None

    def set(self, number: int, key: bytes) -> None:
        """Make a context of a key of 16 bytes; raises PlatformError."""
        error = self._call(number=number, key=key)
        if error:
            raise PlatformError(
                f"the kernel makes no AES context (error {-error}): it needs CONFIG_CRYPTO_AES and CONFIG_CRYPTO_ECB"
            )
        if self._faster is None:  # only once there is a context does /proc/crypto list the driver
            self._faster = not self._fixed_time and prefers_fixed_time(CRYPTO.read_text())
        if self._faster:
            self._call(number=number, key=key, faster=1)  # where that fails the first context stays

    def remove(self, number: int) -> None:
        """Remove a context."""
        self._call(number=number, remove=1)

    def _call(self, **members: int | bytes) -> int:
        return self._program.call(self._order.pack_sparse(**members))
