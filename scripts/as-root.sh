#!/usr/bin/env bash
# Runs a command as root: at once if we are, else through sudo.
set -euo pipefail

if [ "$(id -u)" = 0 ]; then
    exec "$@"
fi
if command -v sudo >/dev/null; then
    echo "network namespaces and BPF need root: sudo $*" >&2
    exec sudo "$@"
fi
echo "network namespaces and BPF need root, and there is no sudo: run as root: $*" >&2
exit 1
