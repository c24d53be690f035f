#!/usr/bin/env bash
# Installs what the tests start besides shadowtap, if it is missing and if this
# is a machine with apt where we are root. Otherwise it says what is missing:
# the tests that need it are skipped, or fail where SHADOWTAP_REQUIRE_NGINX=1.
set -euo pipefail

PATH=$PATH:/usr/sbin:/sbin
missing=()
command -v nginx >/dev/null || missing+=(nginx-light)
command -v ip >/dev/null || missing+=(iproute2)
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing, and not installed without root and apt: ${missing[*]}"
    exit 0
fi

# nginx must not start on this machine's port 80 when it is installed: the
# tests run their own, in namespaces of their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi

echo "installing what the tests need: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } </dev/null >/dev/null; then
    echo "could not install: ${missing[*]}"
fi
