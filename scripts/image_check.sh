#!/usr/bin/env bash
# Builds the image of deploy/Dockerfile and makes a clip with it over HTTP. By hand, not in CI: the image has 5.5 GB (CUDA's
# libraries), building it takes 15 GB of disk and some twenty minutes on two busy cores.
#
# Needs buildah, as root or with user namespaces. BASE is the image to build on (that of the Dockerfile by default); where no
# registry can be reached, one made by debootstrap with python3, python3-venv and ca-certificates will do:
#   buildah from --name base scratch; buildah add base FOLDER /; buildah commit base localhost/base
# OPTIONS go to buildah as they are, such as a proxy or --volume of pip's configuration.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v buildah > /dev/null || { echo "buildah is not installed; on Debian: apt-get install buildah" >&2; exit 1; }

driver=(--storage-driver "${STORAGE_DRIVER:-vfs}")
read -r -a options <<< "${OPTIONS:-}"
[ -n "${BASE:-}" ] && options+=(--build-arg "BASE=$BASE")
# HEALTHCHECK exists in Docker's format alone.
buildah "${driver[@]}" build --isolation chroot --format docker --layers=false -f deploy/Dockerfile -t localhost/phonofilm \
  "${options[@]}" .

container=$(buildah "${driver[@]}" from --pull-never localhost/phonofilm)
work=$(mktemp -d)
server=
clean() {
  # The server is in a group of its own: buildah does not pass signals on.
  if [ -n "$server" ]; then kill -- "-$server" 2> /dev/null && wait "$server" || true; fi
  buildah "${driver[@]}" rm "$container" > /dev/null
  rm -rf "$work"
}
trap clean EXIT
inside() { buildah "${driver[@]}" run --isolation chroot --user phonofilm "$container" -- "$@"; }

inside phonofilm --version
key=$(inside phonofilm serve keys create check)
port=${PORT:-8123}
setsid buildah "${driver[@]}" run --isolation chroot --user phonofilm "$container" -- \
  phonofilm serve --host 0.0.0.0 --port "$port" --store /data/files > "$work/log" 2>&1 &
server=$!
for _ in $(seq 1 240); do
  curl -sf "http://127.0.0.1:$port/health" > /dev/null && break
  kill -0 "$server" 2> /dev/null || { cat "$work/log" >&2; exit 1; }
  sleep 1
done
inside phonofilm submit "A red ball bounces on a wooden floor." --seconds 0.7 --steps 2 --key "$key" \
  --server "http://127.0.0.1:$port" -o /data/ball.mp4
inside phonofilm inspect /data/ball.mp4
inside python3 -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:$port/liveness', timeout=4)"
echo "the image works: $(buildah "${driver[@]}" images --format '{{.Size}}' localhost/phonofilm)"
