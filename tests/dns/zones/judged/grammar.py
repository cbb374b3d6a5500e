"""Zone files made at random from a grammar of odd but legal syntax, and of a few faults."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

APEX = "example.test"

LABELS = [
    "a",
    "b",
    "Www",
    "x-y",
    "_tcp",
    "*",
    "mail",
    r"a\.b",
    r"\097",
    r"sp\032ace",
    r"q\"q",
    r"\@",
    r"\$",
    "xn--p1ai",
    "ü",
]
TYPES = ("A", "AAAA", "NS", "MX", "TXT", "SRV", "PTR", "CNAME", "CAA", "HINFO", "LOC", "NAPTR", "SSHFP", "TLSA", "URI")
RARE = ("MB", "MG", "MR", "MD", "MF", "MINFO", "NID", "L64", "L32", "ZONEMD", "NXT", "RP", "AFSDB", "X25", "ISDN", "RT")
RARER = (
    "DNAME",
    "DS",
    "SVCB",
    "HTTPS",
    "APL",
    "CERT",
    "GPOS",
    "KX",
    "PX",
    "EUI48",
    "EUI64",
    "LP",
    "SPF",
    "WKS",
    "DHCID",
)
RAREST = (
    "NSAP",
    "OPENPGPKEY",
    "SMIMEA",
    "TYPE731",
    "TYPE1",
    "TYPE16",
    "CSYNC",
    "CDS",
    "HIP",
    "AVC",
    "NINFO",
    "IPSECKEY",
)


class ZoneText:
    """A zone file from one seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._data: dict[str, Callable[[], str]] = {
            "A": lambda: f"192.0.2.{self._below(256)}",
            "AAAA": lambda: self._one(
                ["2001:DB8::1", "::", f"2001:db8::{self._below(9999)}", "::ffff:192.0.2.1", "1:2:3:4:5:6:7:8"]
            ),
            "MX": lambda: f"{self._below(65536)} {self._name()}",
            "TXT": self._strings,
            "SPF": self._strings,
            "AVC": self._strings,
            "NINFO": self._strings,
            "SRV": lambda: f"{self._below(3)} {self._below(9)} {self._below(65536)} {self._name()}",
            "CAA": lambda: f"{self._one(['0', '128'])} {self._one(['issue', 'iodef', 'Issue'])} {self._string()}",
            "HINFO": lambda: f"{self._string()} {self._string()}",
            "LOC": self._loc,
            "NAPTR": lambda: (
                f'{self._below(9)} 10 "{self._one(["u", "s", ""])}" "E2U+sip" "!^.*$!sip:x!" {self._name()}'
            ),
            "SSHFP": lambda: f"1 1 {self._hex(20)}",
            "TLSA": lambda: f"3 1 1 {self._hex(32)}",
            "SMIMEA": lambda: f"3 1 1 {self._hex(32)}",
            "URI": lambda: f"10 1 {self._quoted('https://example.test/ü')}",
            "MINFO": lambda: f"{self._name()} {self._name()}",
            "RP": lambda: f"{self._name()} {self._name()}",
            "AFSDB": lambda: f"1 {self._name()}",
            "RT": lambda: f"1 {self._name()}",
            "KX": lambda: f"1 {self._name()}",
            "LP": lambda: f"1 {self._name()}",
            "PX": lambda: f"1 {self._name()} {self._name()}",
            "NID": lambda: f"10 {self._locator()}",
            "L64": lambda: f"10 {self._locator()}",
            "L32": lambda: "10 192.0.2.1",
            "ZONEMD": lambda: f"1 {self._below(3)} {self._one(['0', '1', '250'])} {self._hex(48)}",
            "NXT": lambda: f"{self._name()} {self._one(['A', 'A MX TXT', 'NS SOA NXT'])}",
            "X25": lambda: self._one(["311061700956", '"311061700956"']),
            "ISDN": lambda: self._one(["150862028003217", '"150862028003217" "004"']),
            "DS": lambda: f"{self._below(65536)} 8 2 {self._hex(32)}",
            "CDS": lambda: f"{self._below(65536)} 8 2 {self._hex(32)}",
            "SVCB": self._svcb,
            "HTTPS": self._svcb,
            "APL": lambda: self._one(["1:192.0.2.0/24", "!1:192.0.2.0/25 2:2001:db8::/32", "1:0.0.0.0/0"]),
            "CERT": lambda: f"{self._one(['PGP', '1', '65534'])} 0 {self._one(['0', '5'])} {self._base64()}",
            "GPOS": lambda: self._one(["-32.6882 116.8652 10.0", '"1.0" "2.0" "-3"']),
            "EUI48": lambda: "00-00-5e-00-53-2A",
            "EUI64": lambda: "00-00-5e-ef-10-00-00-2a",
            "WKS": lambda: self._one(["192.0.2.1 6 25", "192.0.2.1 17 53 123"]),
            "DHCID": self._base64,
            "OPENPGPKEY": self._base64,
            "NSAP": lambda: "0x47.0005.80.005a00.0000.0001.e133.ffffff000161.00",
            "TYPE731": lambda: self._one([r"\# 0", r"\# 3 abcdef", r"\# 3 AB CD EF"]),
            "TYPE1": lambda: self._one([r"\# 4 C0000201", r"\# 4 c0 00 0201"]),
            "TYPE16": lambda: r"\# 4 03616263",
            "CSYNC": lambda: f"{self._below(99)} 3 {self._one(['A NS AAAA', 'A', ''])}",
            "HIP": lambda: f"2 200100107B1A74DF365639CC39F1D578 AwEAAbdxyhNuSutc {self._one(['', self._name()])}",
            "IPSECKEY": lambda: (
                self._one(["10 1 2 192.0.2.38", "10 0 2 .", "10 2 2 2001:db8::1"])
                + " AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ=="
            ),
        }

    def text(self) -> str:
        """The whole file."""
        soa = f"ns.{APEX}. hostmaster 7 3600 900 1209600 {self._one(['120', '2M', '1h30m'])}"
        if self._chance(0.4):
            soa = soa.replace(" 7 ", " ( 7 ; serial\n\t").replace(" 900 ", "\n 900;retry (\n\t") + " )"
        head = [self._one(["$TTL 300", "$ttl 1h", '$TTL 1W2d ; remark "(', "", "", "$TTL 4294967295"])]
        head.append(f"@ {self._ttl_and_class()} SOA {soa}")
        body = [f"\t{self._ttl_and_class()} NS ns", f"ns {self._ttl_and_class()} A 192.0.2.1"]
        body += [self._line() for _ in range(self._below(14))]
        if self._chance(0.1):
            body.append(head[-1].replace("(", "").replace(")", "").replace("; serial\n", "").replace(";retry \n", ""))
        end = self._one(["\n", "\n", "\r\n"])
        return end.join([*head, *body]).replace("\r\n\t", "\n\t") + self._one(["", end])

    def _line(self) -> str:
        kind = self._below(40)
        if kind < 3:
            return self._one(["", "   ", '; remark ü " ( )', "\t;x"])
        if kind == 3:
            return f"$ORIGIN {self._one(['sub', 'sub.example.test.', 'EXAMPLE.test.', '@', 'a.b', 'Sub'])} ; remark"
        if kind == 4:
            return f"$TTL {self._one(['60', '1d', '0', '2147483647', '2147483648', '1h1', 'x'])}"
        if kind in (5, 6):
            return self._generate()
        if kind == 7 and self._chance(0.3):
            return self._one(
                [
                    "$UNICODE 2008",
                    "x BLAH y",
                    "x CH A 192.0.2.1",
                    "x 60 60 A 192.0.2.1",
                    "x IN",
                    '"x" A 192.0.2.1',
                    "x (",
                    "x A )",
                    'x TXT "a',
                    "x A 192.0.2.1 z",
                    "x\\",
                    "$DATE 20260101000000",
                    "TXT TXT TXT",
                    "IN IN IN A 192.0.2.1",
                    "60 60 A 192.0.2.2",
                ]
            )
        return self.record()

    def record(self) -> str:
        """One record, mostly good, on one line or several."""
        pick = self._below(20)
        rtype = self._one(TYPES if pick < 13 else RARE if pick < 16 else RARER if pick < 18 else RAREST)
        data = self._data.get(rtype, self._name)()
        owner = self._one([self._name(), self._name(), "", "@", self._one(LABELS)])
        if self._chance(0.95):
            owner = owner.replace(".example.net.", "")
        text = f"{owner}{self._space()}{self._ttl_and_class()} {self._case(rtype)}{self._space()}{data}"
        if self._chance(0.15) and '"' not in text and "\\" not in text:
            words = text.split(" ")
            at = self._below(len(words)) + (not owner)
            text = (
                " ".join(words[: at + 1])
                + " ("
                + self._one(["\n ", " ", " ; x\n\t"])
                + self._one([" ", "\n "]).join(words[at + 1 :])
                + self._one([")", " )", "\n)", " ;)\n)"])
            )
        return text + self._one(["", "", " ", "\t; remark", ";x", " ;ü"])

    def _generate(self) -> str:
        span = self._one(["1-3", "0-4/2", "8-8", "3-1", "10-12"])
        owner = self._one(
            [
                "host-$",
                "h${0,3}",
                "${-1}",
                "g${16,4,x}.sub",
                "$.gen",
                "n${0,5,n}",
                "a$$b$",
                r"\$$",
                "N${1,4,N}",
                "X${255,0,X}",
                "o${8,3,o}",
            ]
        )
        data = self._one(
            [
                "A 192.0.2.$",
                "CNAME x$",
                'MX "0 ."',
                'TXT "a $ b"',
                "PTR h${1,2,d}.example.test.",
                "AAAA 2001:db8::$",
                "NS ns",
                'SRV "0 0 $ x"',
                "TXT x$$y$",
            ]
        )
        return f"$GENERATE {span} {owner} {self._ttl_and_class()} {data}{self._one(['', ' ; remark'])}"

    def _ttl_and_class(self) -> str:
        ttl = self._one(["60", "1h", "0", "1M1s", "2147483648", "4294967296"] if self._chance(0.1) else ["60", "1h30m"])
        return self._one(["", "", "", ttl, "IN", "in", f"IN {ttl}", f"{ttl} IN", f"{ttl}\tCLASS1", f"{ttl}"])

    def _name(self) -> str:
        labels = [self._one(LABELS) for _ in range(1 + self._below(3))]
        return ".".join(labels) + self._one(["", "", "", ".example.test.", ".EXAMPLE.Test.", ".example.net."])

    def _strings(self) -> str:
        return " ".join(self._string() for _ in range(1 + self._below(3)))

    def _string(self) -> str:
        return self._one(
            [
                self._quoted("a b"),
                self._quoted("x;y"),
                "bare",
                r"b\ are",
                '""',
                r'"q\"q"',
                r'"\\"',
                r'"\007\255"',
                '"ü"',
                "ü",
                '"é\\é"',
                r"a\;b",
                "@",
                "k=v",
            ]
        )

    def _quoted(self, text: str) -> str:
        return f'"{text}"'

    def _loc(self) -> str:
        where = self._one(
            ["51 30 12.748 N 0 7 39.611 W", "90 N 180 E", "1 2 S 3 4 W", "1 2 3.5 S 3 4 5.05 W", "0 0 0.000 N 0 0 0 E"]
        )
        height = self._one(["0.00m", "42849672.95m", "-100000.00m", "0.29m", "-0.01m", "10", "1.5m"])
        more = self._one(["", "", " 1m", " 0.29m 10m", " 30m 10000m 10m", " 90000000.00m", " 12.34m 0m 0.01m"])
        return f"{where} {height}{more}"

    def _locator(self) -> str:
        return self._one(["0:0:0:1", "2001:0DB8:1140:1000", "f:ff:fff:FFFF", "14:4fff:ff20:ee64"])

    def _svcb(self) -> str:
        name = self._one([".", self._name()])
        return self._one(
            [
                f"0 {self._name()}",
                f"1 {name}",
                f"1 {name} alpn=h2",
                f'1 {name} alpn="h2,h3" port=8443',
                f"16 {name} ipv4hint=192.0.2.1 ipv6hint=2001:db8::1",
                f'1 {name} mandatory=alpn alpn=h3 key667="a b\\"c"',
                f"1 {name} no-default-alpn alpn=h2",
                f"2 {name} ech=AAQAAAAA",
            ]
        )

    def _hex(self, size: int) -> str:
        digits = bytes(self._below(256) for _ in range(size)).hex()
        return self._one([digits, digits.upper(), f"{digits[:7]} {digits[7:]}"])

    def _base64(self) -> str:
        return self._one(["AQID", "AQI=", "AQID BAUG", "AA=="])

    def _case(self, text: str) -> str:
        return self._one([text, text, text.lower(), text.capitalize()])

    def _space(self) -> str:
        return self._one([" ", " ", "\t", "  \t "])

    def _below(self, number: int) -> int:
        return self._random.randrange(number)

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _one(self, some: list[str] | tuple[str, ...]) -> str:
        return self._random.choice(some)
