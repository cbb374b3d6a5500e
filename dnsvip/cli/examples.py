"""Examples at the end of each command's `--help`; a test parses every one of them as the command would."""

from __future__ import annotations

from collections.abc import Mapping

import click

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "apply": ("apply site.toml --config node.toml --dry-run", "apply site.toml --config node.toml"),
    "serve": ("serve node.toml", "serve node.toml --token-file token"),
    "dispatch": ("dispatch node.toml", "dispatch node.toml --detach"),
    "decoder": ("decoder decoder.toml",),
    "xdp": ("xdp attach node.toml", "xdp status node.toml", "xdp decap eth0 fd00:10::11"),
    "flows": (
        "flows top --by client --config node.toml",
        "flows search 2001:db8:77::/48 --config node.toml",
        "flows purge acme --config node.toml",
    ),
    "watch": (
        "watch acme --config node.toml",
        "watch 2001:db8:a:1::/64 --reason bad-tag --config node.toml",
        "watch --questions www.example.test --config node.toml",
    ),
    "decode": ("decode 2001:db8:a:1:1aed:aa6b:c2e5:9c0b --config node.toml",),
    "encode": ("encode --config node.toml --cluster web --client acme",),
    "status": ("status", "status --json"),
    "clients": (
        "clients list --sort tier",
        "clients move acme standard",
        "clients usage acme",
        "clients addresses acme",
        "clients certify acme -",
        "clients revoke acme --end-flows",
    ),
    "tiers": ("tiers list --pool fast", "tiers add silver code=3 pool=slow dscp=10"),
    "clusters": ("clusters list", "clusters set web ttl=30", "clusters preview web expiry_unit=1200"),
    "pools": ("pools list", "pools set fast fallback=slow"),
    "servers": (
        "servers list --state drain",
        "servers health",
        "servers drain slow/slow-1 slow/slow-2",
        "servers add slow/slow-3 address=fd00:10::23 weight=10",
    ),
    "zones": (
        "zones list",
        "zones show example.test",
        "zones set example.test transfer.tsig=acme-key",
        "zones set example.test dnssec.enabled=true",
        'zones set example.test \'update=[{"tsig": "certbot", "names": ["_acme-challenge.*"], "types": ["TXT"]}]\'',
        "zones ds example.test",
        "zones keys example.test",
        "zones roll-key example.test ksk",
        "zones confirm-ds example.test --parent 192.0.2.1:53",
    ),
    "records": (
        "records list example.test --type MX",
        "records set example.test www.dev A 192.0.2.7 --ttl 300",
        "records add example.test www.dev A 192.0.2.8",
        "records remove example.test www.dev A",
    ),
    "services": ("services list", "services add api.example.test cluster=web"),
    "dns-groups": (
        "dns-groups list",
        "dns-groups add high 'servers=[\"[2001:db8:53::1]:53\"]' 'tiers=[\"gold\"]'",
    ),
    "classify": ("classify show", 'classify set \'order=["tsig", "ecs", "source"]\''),
    "tsig": ("tsig list --tier gold", "tsig show acme-key"),
    "dns-tokens": (
        "dns-tokens mint acme --client acme",
        "dns-tokens rotate acme --overlap 12h",
        "dns-tokens list --client acme",
    ),
    "keys": ("keys list web", "keys rotate web", "keys rotate web --emergency"),
    "client-ca": ("client-ca show", "client-ca rotate", "client-ca remove 1"),
    "sessions": ("sessions create '*.s.app.example.test'",),
    "nodes": (
        "nodes list --role dispatch --silent",
        "nodes show dns-1",
        "nodes drain dns-1",
        "nodes undrain dns-1",
        "nodes discovery node.toml --address 192.0.2.53",
    ),
    "announce": ("announce 2001:db8:a:1::/64 2001:db8:53::/48",),
    "backup": ("backup site.backup --config node.toml",),
    "restore": ("restore site.backup --config node.toml",),
    "doctor": ("doctor node.toml", "doctor node.toml --quiet --json"),
    "client": (
        "client resolve www.example.test",
        "client exec -- curl https://www.example.test/",
        "client certify --request",
    ),
    "demo": ("demo", "demo --xdp"),
    "completion": ("completion bash",),
}
"""Command -> command lines, without the program's name; commands that are not here bring their own."""


def with_examples(name: str, command: click.Command) -> click.Command:
    """The command, with its examples at the end of its help."""
    lines = EXAMPLES.get(name, ())
    if lines and "Examples:" not in (command.epilog or ""):
        shown = "\n".join(["\b", "Examples:", *(f"  dnsvip {line}" for line in lines)])
        command.epilog = "\n\n".join(filter(None, [shown, command.epilog]))
    return command
