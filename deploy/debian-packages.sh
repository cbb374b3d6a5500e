#!/bin/sh
# Installs the Debian packages whose programs `make demo` and `make test` run, or those named as arguments.
# As root it installs what is missing; otherwise it names what is missing and continues, so that the rest still works.
set -eu

packages="${*:-
    python3-venv make clang-19 libbpf-dev libbpf1 linux-libc-dev
    iproute2 iputils-ping ethtool tcpdump strace iperf3 openssh-client curl nghttp2-client openssl zsh fish
    bind9 bind9-dnsutils knot knot-dnsutils nsd unbound dnsdist dnsperf pdns-server pdns-backend-sqlite3 fstrm-bin dnstap-ldns
    postgresql pgbouncer patroni etcd-server etcd-client
    bird2 frr exabgp haproxy nginx-light
    softhsm2 opensc prometheus chromium chromium-headless-shell
    podman runc netavark aardvark-dns iptables mmdebstrap uidmap slirp4netns fuse-overlayfs docker-compose
    debhelper dpkg-dev lintian man-db systemd
}"

missing=""
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
[ -z "$missing" ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "missing Debian packages, as root: apt-get install$missing" >&2
    exit 0
fi

echo "installing Debian packages:$missing"
export DEBIAN_FRONTEND=noninteractive
# The tests start their own servers: keep Debian from starting system-wide ones during installation.
policy=/usr/sbin/policy-rc.d
made_policy=""
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
    made_policy=yes
fi
trap '[ -z "$made_policy" ] || rm -f "$policy"' EXIT
apt-get update -qq
# shellcheck disable=SC2086 # one word per package
apt-get install -y -qq --no-install-recommends $missing >/dev/null
