"""Runs as a script: `enter.py FILE COMMAND...` mounts FILE over /etc/hosts for COMMAND alone, then execs it.

It uses a new mount namespace; without the privilege to make one, inside a user namespace that keeps the user's id. It
imports only the standard library, so that it starts quickly.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys

CLONE_NEWNS, CLONE_NEWUSER = 0x0002_0000, 0x1000_0000  # unshare(2)
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 0x8_0000  # mount(2)
NOT_ALLOWED, NOT_FOUND = 126, 127


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def enter(file: str, target: str) -> None:
    """Move this process into a mount namespace with `file` mounted over `target`; raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.geteuid(), os.getegid()
    try:
        _checked(libc.unshare(CLONE_NEWNS))
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
        _checked(libc.unshare(CLONE_NEWNS | CLONE_NEWUSER))
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w") as map_file:
                map_file.write(text)
    _checked(libc.mount(None, b"/", None, MS_REC | MS_SLAVE, None))
    _checked(libc.mount(os.fsencode(file), os.fsencode(target), None, MS_BIND, None))


def main(file: str, *command: str) -> int:
    """Enter and exec the command; an exit code where that fails."""
    try:
        enter(file, "/etc/hosts")
    except OSError as error:
        print(  # noqa: T201 - a script has no other output
            f"dnsvip client exec: --hosts needs a mount namespace, and this system refuses: {error.strerror}."
            " Run without --hosts, or let users make namespaces (sysctl user.max_user_namespaces,"
            " kernel.apparmor_restrict_unprivileged_userns).",
            file=sys.stderr,
        )
        return NOT_ALLOWED
    try:
        os.execvp(command[0], command)  # noqa: S606 - exec is the purpose
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201 - as above
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_ALLOWED


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
