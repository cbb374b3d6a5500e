#!/usr/bin/env bash
# Pins the images that the container file and the compose file build on, by digest.
#
#   images.sh pin     pull each image, and write its digest to images.env (ENGINE=docker for Docker)
#   images.sh check   refuse, with exit code 1, unless images.env pins every one: run this before a release
#
# Then: `podman compose --env-file deploy/container/images.env ...`, or `podman build --build-arg-file ...` for one image.
set -euo pipefail
cd "$(dirname "$0")"
engine=${ENGINE:-podman}
file=${IMAGES:-images.env}

names() {  # the variables of all images; fails where a file names an image without one
  if grep -nE '^[[:space:]]*(FROM|image:)[[:space:]]' Containerfile compose.yaml | grep -vE '\$\{[A-Z]+_IMAGE|image: dnsvip$'; then
    echo "name an image by a variable, so that it can be pinned" >&2
    return 1
  fi
  grep -ohE '\$\{[A-Z]+_IMAGE:-[^}]+\}' compose.yaml | sort -u
}

case "${1:-}" in
pin)
  images=$(names)
  draft=$(mktemp "$file.XXXXXX")
  trap 'rm -f "$draft"' EXIT
  while IFS= read -r word; do
    name=${word#??}; name=${name%%:-*}
    image=${word#*:-}; image=${image%\}}
    "$engine" pull --quiet "$image" >&2 </dev/null
    echo "$name=$("$engine" image inspect --format '{{index .RepoDigests 0}}' "$image" </dev/null)"
  done <<<"$images" >"$draft"
  mv "$draft" "$file"
  exec "$0" check
  ;;
check)
  images=$(names)
  missing=0
  while IFS= read -r word; do
    name=${word#??}; name=${name%%:-*}
    grep -qsE "^$name=[^@[:space:]]+@sha256:[0-9a-f]{64}$" "$file" || {
      echo "$name: not pinned by digest in $file; \`images.sh pin\` does it" >&2
      missing=1
    }
  done <<<"$images"
  exit "$missing"
  ;;
*)
  sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
  exit 2
  ;;
esac
