"""The files of the demo's operator: site, zone, node, resolver.

It promises files the documented commands take as they are; it runs nothing.
"""

from __future__ import annotations

from pathlib import Path

from dnsvip.demo.topology import FAST, NAME_SERVER, PLAIN, PREFIX, RESOLVER, SLOW

NAME = "www.example.test"
DNS_NAME = "dns.example.test"
"""What clients know the DNS server by over HTTPS."""

API = f"http://[{NAME_SERVER}]:8053"


def _servers(servers: dict[str, str]) -> str:
    return ", ".join(f'{{ name = "{name}", address = "{address}" }}' for name, address in servers.items())


SITE = f"""\
[cluster.web]
prefix = "{PREFIX}"
plain = "{PLAIN}"
layout = [["tier", 4], ["client", 20], ["lang", 2], ["expiry", 7], ["nonce", 4]]
tag_bits = 24
ttl = 2                    # seconds; short, so that the demo need not wait
default_tier = "standard"
session_lifetime = 600
values = {{ lang = {{ fr = 1, en = 2 }} }}
[[cluster.web.select]]     # not the tier alone: gold clients who prefer French
when = {{ tier = "gold", lang = "fr" }}
pool = "slow"

[tier.gold]
code = 1
pool = "fast"
dscp = 34
[tier.standard]
code = 2
pool = "slow"

[pool.fast]
check = {{ tcp = 80 }}
servers = [{_servers(FAST)}]
[pool.slow]
check = {{ tcp = 80 }}
servers = [{_servers(SLOW)}]

[zone."example.test"]
file = "example.test.zone"
[service."{NAME}"]
cluster = "web"

[client.acme]              # identified by its network, as its resolver reports it (ECS)
id = 1001
tier = "gold"
match = [{{ ecs = "2001:db8:77::/48" }}]
[tsig."roamer-key"]
secret = "ZGVtbyBvbmx5LCB3b3J0aCBub3RoaW5nIGVsc2V3aGVyZQ=="
[client.roamer]            # identified by its key, anywhere
id = 1002
tier = "gold"
match = [{{ tsig = "roamer-key" }}]
proof = {{ bind = "address", required = true }}

[client.courier]           # identified by a token, which the operator makes later
id = 1003
tier = "gold"

[classify]
order = ["tsig", "token", "ecs", "source"]
trust_ecs_from = ["{RESOLVER}/128"]
"""

ZONE = f"""\
$ORIGIN example.test.
$TTL 300
@    IN SOA  ns hostmaster 1 3600 900 1209600 300
     IN NS   ns
ns   IN AAAA {NAME_SERVER}
dns  IN AAAA {NAME_SERVER}
shop IN CNAME www
"""

NODE = f"""\
database = "sqlite:///dnsvip.db"
node = "one"
[[dns.listen]]
address = "[{NAME_SERVER}]:53"
[[dns.listen]]
address = "https://[{NAME_SERVER}]:443"
[dns.tls]
certificate = "dns.pem"
key = "dns.key"
[admin]
listen = "[{NAME_SERVER}]:8053"
[dispatch]
interface = "eth0"
"""

UNBOUND = f"""\
server:
  directory: "."
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  interface: {RESOLVER}
  do-ip4: no
  access-control: 2001:db8::/32 allow
  module-config: "subnetcache iterator"
  send-client-subnet: {NAME_SERVER}    # report the client's network to our name server (RFC 7871)
  local-zone: "test." nodefault
stub-zone:
  name: "example.test"
  stub-addr: {NAME_SERVER}
"""

SECOND_NODE = """\
database = "sqlite:///dnsvip.db"
node = "two"
state_dir = "state-2"
[dispatch]
interface = "eth0"
"""

HAPROXY_PORTS = {"tcp": 8080, "http": 8081, "redirect": 8082}

_TIMEOUTS = "  timeout connect 5s\n  timeout client 30s\n  timeout server 30s"
HAPROXY = f"""\
global
  maxconn 2000
defaults
{_TIMEOUTS}
frontend tcp
  mode tcp
  bind [::]:{HAPROXY_PORTS["tcp"]}
  default_backend fast-tcp
frontend http
  mode http
  option forwardfor
  bind [::]:{HAPROXY_PORTS["http"]}
  default_backend fast-http
frontend redirect
  mode http
  bind [::]:{HAPROXY_PORTS["redirect"]}
  http-request redirect prefix http://[{FAST["fast-1"]}] code 302
backend fast-tcp
  mode tcp
  server fast-1 [{FAST["fast-1"]}]:80
backend fast-http
  mode http
  server fast-1 [{FAST["fast-1"]}]:80
"""
"""What HAProxy does with connections, for comparison."""

FILES = {
    "site.toml": SITE,
    "example.test.zone": ZONE,
    "node.toml": NODE,
    "node-2.toml": SECOND_NODE,
    "unbound.conf": UNBOUND,
    "haproxy.cfg": HAPROXY,
}


def write(folder: Path, pins: Path | None = None) -> None:
    """Write all files into `folder`; with `pins` the dispatchers use XDP."""
    for name, text in FILES.items():
        (folder / name).write_text(text)
    if pins is not None:
        for name in ("node.toml", "node-2.toml"):
            (folder / name).write_text(f'{FILES[name]}mode = "xdp"\npins = "{pins}"\n')
