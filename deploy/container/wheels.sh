#!/usr/bin/env bash
# Makes the wheels that the container file installs, in build/wheels: dnsvip's own, and the locked ones of its packages.
#
#   deploy/container/wheels.sh            for Debian bookworm's Python 3.11 and this machine's processor
#   PYTHON_VERSION=3.13 ARCH=aarch64 deploy/container/wheels.sh
#
# Only this step reaches a package index, by pip's own configuration, and takes what the lock has a hash of. It needs what
# `deploy/debian-packages.sh python3-venv clang-19 libbpf-dev linux-libc-dev` installs: our wheel has compiled kernel programs.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
wheels=${WHEELS:-$root/build/wheels}
version=${PYTHON_VERSION:-3.11}
arch=${ARCH:-$(uname -m)}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/src" "$work/wheels"

python3 -m venv "$work/venv"
pip=("$work/venv/bin/python" -m pip --quiet --disable-pip-version-check)
platforms=(--platform "linux_$arch" --platform "manylinux2014_$arch")  # the latter takes manylinux1 and 2010 along
for minor in $(seq 17 36); do platforms+=(--platform "manylinux_2_${minor}_$arch"); done  # bookworm has glibc 2.36
fetch() {
  "${pip[@]}" download --only-binary :all: --require-hashes --no-deps --dest "$work/wheels" "$@" \
    --python-version "$version" --implementation cp "${platforms[@]}" --requirement "$root/deploy/requirements.lock"
}
fetch --no-index --find-links "$wheels" 2>/dev/null || fetch  # nothing is asked for where all is here already

# From a copy, as a build leaves files in its sources.
(cd "$root" && cp -R dnsvip deploy examples migrations LICENSE README.md pyproject.toml "$work/src")
"${pip[@]}" install --no-compile --require-hashes --only-binary :all: --requirement "$root/deploy/requirements-build.lock"
"${pip[@]}" wheel --no-deps --no-build-isolation --wheel-dir "$work/wheels" "$work/src"

mkdir -p "$wheels"
rm -f "$wheels"/*.whl
cp "$work"/wheels/*.whl "$wheels"
cp "$root/deploy/requirements.lock" "$wheels"
echo "$(find "$wheels" -name '*.whl' | wc -l) wheels in $wheels"
