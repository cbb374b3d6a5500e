"""Every command shows examples, and each of them is one that the command takes."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from dnsvip.cli import COMMANDS, root
from dnsvip.cli.examples import EXAMPLES

LIGHT = {"dnsvip.cli.examples"}
LINES = [line for lines in EXAMPLES.values() for line in lines]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_examples(name: str) -> None:
    """`--help` of each command ends with examples of it."""
    shown = CliRunner().invoke(root, [name, "--help"])
    assert shown.exit_code == 0
    assert f"  dnsvip {name}" in shown.output.partition("Examples:")[2], shown.output


def test_list_of_commands() -> None:
    """`dnsvip --help` has every command once, and needs none of them for it."""
    code = (
        "import sys; from dnsvip.cli import main\ntry: main(['--help'])\nfinally: print(*sys.modules, file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert sorted(re.findall(r"^  ([a-z][a-z-]*)  ", ran.stdout, re.MULTILINE)) == sorted(COMMANDS)
    assert not {name for name in ran.stderr.split() if name.startswith(("dnsvip.cli.", "sqlalchemy"))} - LIGHT


@pytest.mark.parametrize("line", LINES)
def test_examples_are_taken(line: str) -> None:
    """Words, options and values of an example are read without complaint."""
    command: click.Command = root
    words, context = shlex.split(line), click.Context(root)
    while isinstance(command, click.Group):
        name, command, words = command.resolve_command(context, words)  # type: ignore[assignment]
        assert name
        context = click.Context(command, context, name)
    command.make_context(context.info_name, words, context.parent)
