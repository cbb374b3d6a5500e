#!/usr/bin/env bash
# Writes the locks: every package that containers, CI and developers install, at one version, with the hashes of its files.
#
#   make lock             after a change of pyproject.toml: keeps each version that still fits
#   make lock UPGRADE=1   raises every version to the newest that fits
#
# One lock holds for every supported Python: uv resolves for all of them at once and notes where a package is needed.
# Only wheels are locked, as building from an sdist would run code and fetch tools that no hash covers. uv is in the lock too.
set -euo pipefail
cd "$(dirname "$0")/.."

lock() {  # NAME SOURCE [OPTION...]: what SOURCE asks for, to deploy/NAME.lock
  .venv/bin/uv --no-config --quiet pip compile "${@:2}" --output-file "deploy/$1.lock" \
    --universal --python-version 3.11 --only-binary :all: --generate-hashes --no-emit-index-url \
    --custom-compile-command "make lock" "${upgrade[@]}"
}

upgrade=("$@")
lock requirements pyproject.toml
lock requirements-dev pyproject.toml --extra dev --constraint deploy/requirements.lock
.venv/bin/python - <<'END' | lock requirements-build -
import pathlib
text = pathlib.Path("pyproject.toml").read_text().split("requires = [", 1)[1]
print(*text.split("]", 1)[0].replace('"', "").split(","), sep="\n")
END
