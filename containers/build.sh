#!/bin/sh
# Make Millpond's image with whatever engine runs here: docker, podman or buildah.
# usage: containers/build.sh [NAME]   after `./dev wheelhouse`; `./dev image` does both
set -eu
cd "$(dirname "$0")/.."
name=${1:-localhost/millpond}
file=containers/Dockerfile
ignore=containers/Dockerfile.dockerignore

if ! ls ".dev/wheelhouse/lock-$(uname -m)-3.11.txt" >/dev/null 2>&1; then
    echo "There is no wheelhouse for this machine yet. Gather it: ./dev wheelhouse --for $(uname -m)-3.11" >&2
    exit 1
fi
if command -v docker >/dev/null 2>&1 && docker version >/dev/null 2>&1; then
    DOCKER_BUILDKIT=1 exec docker build -f "$file" -t "$name" .
elif command -v podman >/dev/null 2>&1; then
    exec podman build --format docker --ignorefile "$ignore" -f "$file" -t "$name" .
elif command -v buildah >/dev/null 2>&1; then
    exec buildah bud --format docker --ignorefile "$ignore" -f "$file" -t "$name" .
fi
echo "No engine runs here that could make an image. Install one (Debian: apt-get install podman), or start Docker's service." >&2
exit 1
