#!/usr/bin/env bash
# Builds the Debian package of this tree into a folder: deploy/deb.sh FOLDER (make deb). It runs on the release that it is for, as the
# package includes the Python libraries of deploy/requirements.lock for that release's Python. pip fetches them; the rest is on the machine.
set -euo pipefail
cd "$(dirname "$0")/.."

target="$(realpath -m "$1")"
tree="$(mktemp -d)"
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree/dnsvip" "$target"
git ls-files -z --cached --others --exclude-standard -- . ":!tests" | tar --null --files-from=- -cf - | tar -xf - -C "$tree/dnsvip"

export DNSVIP_PYTHON="$PWD/.venv/bin/python"
SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}"
export SOURCE_DATE_EPOCH
version="$("$DNSVIP_PYTHON" -c 'import dnsvip; print(dnsvip.__version__)')"
cd "$tree/dnsvip"
mv deploy/debian debian
printf 'dnsvip (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- The dnsvip authors <dnsvip@example.org>  %s\n' \
  "$version" "$(date -R -u -d "@$SOURCE_DATE_EPOCH")" > debian/changelog
dpkg-buildpackage --build=binary --no-sign --no-check-builddeps
cp ../*.deb "$target"
