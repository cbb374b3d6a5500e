"""Site and node files: the example is valid, and every mistake is reported at its location."""

from __future__ import annotations

import shutil
from ipaddress import ip_network
from pathlib import Path

import pytest

from dnsvip.dns.io.gate import StreamLimits
from dnsvip.errors import ConfigError, InvalidSite
from dnsvip.site import ClassCluster, Cluster, Step, parse_endpoint
from dnsvip.site.io.files import load_node, load_site
from dnsvip.site.node_dns import RateLimit, TcpSettings

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def site_file(tmp_path: Path) -> Path:
    for name in ("site.toml", "example.test.zone"):
        shutil.copy(EXAMPLES / name, tmp_path / name)
    return tmp_path / "site.toml"


def test_example_site_loads() -> None:
    """The example site, identical to the design's, is valid and keeps every value."""
    site = load_site(EXAMPLES / "site.toml")
    web, legacy = site.clusters["web"], site.clusters["legacy"]
    assert isinstance(web, Cluster)
    assert isinstance(legacy, ClassCluster)
    assert web.address_layout.payload_bits == 37
    assert legacy.table.decode(int(legacy.prefix.network_address) + 9) == "gold"
    assert site.tiers["gold"].dscp == 34
    assert site.pools["slow"].servers[1].weight == 50
    assert site.clients["acme"].match[0].step is Step.SOURCE
    assert site.zones["example.test"].text.startswith("$ORIGIN")


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        (
            'pool = "fast"',
            'pool = "fsat"',
            "tier.gold.pool: 'fsat' is not a pool of this site; did you mean 'fast'? (there is: fast, slow)",
        ),
        ("tag_bits = 24", "tag_bits = 23", "cluster.web: prefix 64 + mode 1 + epoch 2 + fields 37 + tag 23 = 127 bits"),
        ("code = 15", "code = 16", "tier.blocked.code: code in cluster 'web' is 16: the field 'tier' has 4 bits"),
        ("code = 15", "code = 2", "tier.blocked.code: 2 belongs to tier.standard already"),
        ("id = 1002", "id = 1001", "client.newsreader.id: 1001 belongs to client.acme already"),
        ("id = 1002", "id = 0", "client.newsreader.id: input should be greater than or equal to 1 (it is 0)"),
        ('"2001:db8:77::/48"', '"2001:db8:77::1/48"', "client.acme.match.0: 2001:db8:77::1/48 has host bits set"),
        ('over = "drop"', 'over = "dorp"', "tier.standard.rate.over: input should be 'drop', 'hold' or 'pass'"),
        (
            "slot_seconds = 30",
            "slot_second = 30",
            "cluster.web.slot_second: unknown key; did you mean 'slot_seconds'? Known here: prefix, plain, layout",
        ),
        (
            "burst = 40,",
            "bursts = 40,",
            "tier.standard.rate.bursts: unknown key; did you mean 'burst'? Known here: new_flows,",
        ),
        (
            '[service."www.example.test"]',
            '[service."www.example.org"]',
            "service.www.example.org: is in none of the zones",
        ),
        ('cluster4 = "legacy"', 'cluster4 = "web"', "service.www.example.test.cluster4: 'web' is not an IPv4 cluster"),
        ("example.test.zone", "missing.zone", "zone.example.test.file: cannot read"),
        ("check = { tcp = 80,", 'check = { tcp = 80, http = "http://a/",', "fast.check: set tcp or http, not both"),
        ("check = { tcp = 80,", "check = {", "pool.fast.check: set tcp, http or agent"),
        (
            "check = { tcp = 80,",
            "check = { tcp = 80, verify = false,",
            "pool.fast.check.verify: applies to https:// checks only",
        ),
        (
            "check = { tcp = 80,",
            'check = { tcp = 80, host = "a.test",',
            "pool.fast.check.host: applies to http checks only",
        ),
        (
            "check = { tcp = 80,",
            'check = { tcp = 80, ca = "x",',
            "pool.fast.check.ca: must be certificates in PEM form",
        ),
        ("weight = 100 }]\n[pool", 'weight = 100, state = "drain" }]\n[pool', "pool.fast: servers.state is set while"),
        ('"fd00:10::22"', '"fd00:10::21"', "pool.slow.servers: two servers have the address fd00:10::21"),
        ("[pool.slow]", '[pool.slow]\nfallback = "fsat"', "pool.slow.fallback: 'fsat' is not a pool of this site"),
        ("[pool.slow]", '[pool.slow]\nfallback = "slow"', "is a loop: slow -> slow"),
        (
            "[pool.slow]",
            '[pool.a]\nfallback = "b"\n[pool.b]\nfallback = "a"\n[pool.slow]\nfallback = "a"',
            "pool.slow.fallback: is a loop: slow -> a -> b -> a",
        ),
        (
            "[pool.slow]",
            "".join(f'[pool.p{n}]\nfallback = "p{n + 1}"\n' for n in range(5)) + "[pool.p5]\n[pool.slow]",
            "pool.p0.fallback: at most 4 pools may follow a pool: p0 -> p1 -> p2 -> p3 -> p4 -> p5",
        ),
        ('plain = "2001:db8:a:1::1"', 'plain = "2001:db8:b::1"', "cluster.web.plain: 2001:db8:b::1 is outside"),
        ("gold = [8, 9]", "gold = [15]", "cluster.legacy: host number 15: must be 1 to 14 in 192.0.2.0/28"),
        ('"tsig", "tls"', '"tsig", "tsig"', "classify.order: 'tsig' is listed twice"),
        ("[classify]", "[clasify]", "clasify: unknown table; did you mean 'classify'? Known: cluster, tier"),
        ('match = [{ source = "203', 'match = [{ sorce = "203', "unknown kind of match 'sorce': must be one of tsig"),
    ],
)
def test_site_mistakes_are_named(site_file: Path, right: str, wrong: str, message: str) -> None:
    """An invalid value is reported with file, table, key and the expected form."""
    text = site_file.read_text()
    assert right in text
    site_file.write_text(text.replace(right, wrong, 1))
    with pytest.raises(InvalidSite) as caught:
        load_site(site_file)
    assert str(caught.value).startswith(str(site_file))
    assert message in str(caught.value)


def test_all_mistakes_are_reported_at_once(site_file: Path) -> None:
    """Two mistakes in one file give two problems."""
    text = site_file.read_text().replace("code = 15", "code = 16").replace("id = 1002", "id = 1001")
    site_file.write_text(text)
    with pytest.raises(InvalidSite) as caught:
        load_site(site_file)
    assert len(caught.value.problems) == 2


def test_broken_toml_names_the_line(tmp_path: Path) -> None:
    """Invalid TOML is reported with its line."""
    path = tmp_path / "site.toml"
    path.write_text("[cluster.web\n")
    with pytest.raises(ConfigError, match="line 1"):
        load_site(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    """A missing file is named."""
    with pytest.raises(ConfigError, match=r"nope\.toml: cannot be read: No such file"):
        load_node(tmp_path / "nope.toml")


def test_node_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """Database, key file and state folder are relative to the node file, whatever the working directory."""
    path = tmp_path / "node.toml"
    path.write_text('database = "sqlite:///x.db"\n')
    node = load_node(path)
    assert node.database == f"sqlite:///{tmp_path}/x.db"
    assert node.key_file == tmp_path / "dnsvip.key"
    assert node.state_dir == tmp_path / "state"


def test_protection_of_dns(tmp_path: Path) -> None:
    """Rate limit, cookies, front ends and TCP limits are read; by default only TCP has limits."""
    path = tmp_path / "node.toml"
    path.write_text(
        'database = "sqlite:///x.db"\n[dns]\nrate_limit = { responses_per_second = 20 }\nrequire_cookies = true\n'
        'proxy_from = ["192.0.2.0/24"]\n[dns.tcp]\nconnections = 7\nper_source = 3\nidle_seconds = 2\n'
    )
    dns = load_node(path).dns
    assert (dns.rate_limit, dns.require_cookies) == (RateLimit(20, 2), True)
    assert (dns.proxy_from, dns.tcp) == ((ip_network("192.0.2.0/24"),), TcpSettings(7, 3, 2.0))
    path.write_text('database = "sqlite:///x.db"\n')
    dns = load_node(path).dns
    assert (dns.rate_limit, dns.require_cookies, dns.proxy_from) == (None, False, ())
    limits = StreamLimits()
    assert dns.tcp == TcpSettings(limits.connections, limits.per_source, limits.idle)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "database: missing"),
        ('database = "mysql://root:hunter2@db/x"', 'must be "sqlite:///FILE"'),
        ('database = "sqlite:///x"\n[dns]\nworkers = 0', "dns.workers: input should be greater than or equal to 1"),
        (f'database = "sqlite:///x"\n[dns]\nidentity = "{"x" * 256}"', "dns.identity: string should match"),
        ('database = "sqlite:///x"\n[[dns.listen]]\naddress = "::1:53"', "[2001:db8::1]:53"),
        ('database = "sqlite:///x"\n[[dns.listen]]\naddress = "tcp://[::]:53"', "must be ADDRESS:PORT, tls://ADDRESS"),
        ('database = "sqlite:///x"\n[[dns.listen]]\naddress = "://[::]:53"', "must be ADDRESS:PORT, tls://ADDRESS"),
        (
            'database = "sqlite:///x"\n[[dns.listen]]\naddress = "quic://[::]"',
            "dns.listen.0.address: must be ADDRESS:PORT",
        ),
        ('database = "sqlite:///x"\n[[dns.listen]]\naddress = "https://[::]:443"', "needs a certificate"),
        ('database = "sqlite:///x"\n[dns.tls]\ncertificate = "x"', "dns.tls.key: missing"),
        ('database = "sqlite:///x"\n[dns]\nrate_limit = {}', "dns.rate_limit.responses_per_second: missing"),
        ('database = "sqlite:///x"\n[dns]\nrate_limit = 5', "dns.rate_limit"),
        ('database = "sqlite:///x"\n[dns.tcp]\nconnections = 0', "dns.tcp.connections: input should be greater"),
        ('database = "sqlite:///x"\n[dns.tcp]\nidle_seconds = inf', "dns.tcp.idle_seconds: input should be"),
        ('database = "sqlite:///x"\n[dns]\nproxy_from = ["everywhere"]', "dns.proxy_from.0"),
        ('database = "sqlite:///x"\n[dispatch]\nmode = "dpdk"', "dispatch.mode: input should be 'user' or 'xdp'"),
        ('database = "sqlite:///x"\n[dispatch]\nencap_source = "100::/48"', "dispatch.encap_source: must be an IPv6"),
        ('database = "sqlite:///x"\n[announce]\nprefixes = ["::/0"]', "announce.prefixes.0: must be a prefix of /16"),
        ('database = "sqlite:///x"\nkeyfile = "x"', "keyfile: unknown key"),
    ],
)
def test_node_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    """An invalid node file is reported with the key and the expected form, and never shows a password."""
    path = tmp_path / "node.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_node(path)
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("written", "version"), [("true", True), ("false", False), ('"mine"', "mine")])
def test_identity(tmp_path: Path, written: str, version: bool | str) -> None:
    """A server identifies itself only if the node file sets an identity."""
    path = tmp_path / "node.toml"
    path.write_text('database = "sqlite:///x"\n')
    silent = load_node(path).dns
    assert (silent.identity, silent.version, silent.nsid) == (None, False, None)
    path.write_text(f'database = "sqlite:///x"\n[dns]\nidentity = "a b"\nversion = {written}\nnsid = "n"\n')
    telling = load_node(path).dns
    assert (telling.identity, telling.version, telling.nsid) == ("a b", version, "n")


def test_endpoints() -> None:
    """Endpoints of both families are split into address and port."""
    assert parse_endpoint("192.0.2.1:53") == ("192.0.2.1", 53)
    assert parse_endpoint("[2001:db8::1]:5353") == ("2001:db8::1", 5353)


@pytest.mark.parametrize(
    "text",
    ["x = " + "[" * 20_000, "x = " + "{a=" * 20_000, f"[tier.{'a.' * 20_000}b]", f"[tier.{'a.' * 900}b]"],
    ids=["lists", "tables", "dots", "fewer dots"],
)
def test_deep_nesting(tmp_path: Path, text: str) -> None:
    """A file that is nested very deeply is a wrong file, as any other."""
    (tmp_path / "deep.toml").write_text(text)
    with pytest.raises(ConfigError, match="nested too deeply"):
        load_site(tmp_path / "deep.toml")


def test_a_very_long_number(tmp_path: Path) -> None:
    """A number of more digits than Python reads makes a file a wrong one, too."""
    (tmp_path / "long.toml").write_text("x = " + "9" * 5000)
    for load in (load_site, load_node):
        with pytest.raises(ConfigError, match="is not TOML"):
            load(tmp_path / "long.toml")


def test_a_file_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no end is not read for ever, whether it is the site file or a zone file."""
    monkeypatch.setattr("dnsvip.site.io.files.MOST_BYTES", 1 << 20)
    for name in ("zero.toml", "zero.zone"):
        (tmp_path / name).symlink_to("/dev/zero")
    (tmp_path / "site.toml").write_text('[zone."example.test"]\nfile = "zero.zone"\n')
    for name in ("zero.toml", "site.toml"):
        with pytest.raises(ConfigError, match="has more than 1048576 bytes"):
            load_site(tmp_path / name)


@pytest.mark.parametrize("form", ["{}=1", "[{}]", "[[ {} ]]", "a = {{b=1, {}=1}}", "  {}=1"])
@pytest.mark.parametrize("part", ["a", '"a.\\"b"', "'a'"])
def test_a_key_of_very_many_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, part: str) -> None:
    """It is refused before it is parsed, for which one of a hundred thousand takes minutes and gigabytes."""
    monkeypatch.setattr("tomllib.loads", lambda _: {})
    path = tmp_path / "site.toml"
    path.write_text("\n" + form.format(" . ".join([part] * 500)) + "\n")
    with pytest.raises(ConfigError, match="nested too deeply"):
        load_site(path)


def test_texts_with_many_dots(tmp_path: Path) -> None:
    """What looks like a long key is none in a text: the longest name of a zone, or a sentence of dots."""
    path = tmp_path / "node.toml"
    name = ".".join("a" * 127)
    path.write_text(f'x = """\n{name} A 192.0.2.1\n"""\ny = "{"a." * 5000}"\n')
    with pytest.raises(ConfigError, match="unknown"):
        load_node(path)
