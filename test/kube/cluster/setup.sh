#!/usr/bin/env bash
# Installs the Debian packages that the cluster takes, and builds the programs
# of Kubernetes, once: some minutes, and a lookup from then on.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

# command:package
missing=()
for tool in containerd:containerd runc:runc ctr:containerd iptables:iptables ip:iproute2 openssl:openssl nsenter:util-linux conntrack:conntrack pgrep:procps; do
    command -v "${tool%%:*}" >/dev/null || missing+=("${tool#*:}")
done
[ -x /usr/lib/cni/bridge ] || missing+=(containernetworking-plugins)
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "missing, and not installed without root and apt: ${missing[*]}" >&2
        exit 1
    fi
    # No container is to be run by the machine's own containerd.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
    fi
    echo "installing: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >/dev/null
fi

mkdir -p "$CACHE"
exec 9>"$CACHE/lock"
flock 9
cd "$here/../k8s"
key=$(cat go.mod go.sum main.go <(go version) | sha256sum | cut -c1-16)
if [ ! -x "$CACHE/k8s-$key" ]; then
    version=$(sed -n 's/^[[:space:]]*k8s.io\/kubernetes \(v[0-9.]*\)$/\1/p' go.mod)
    minor=${version#v1.}
    stamp=
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        stamp+=" -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*} -X $package.gitTreeState=clean"
    done
    echo "building Kubernetes $version, once; this takes minutes"
    # Not optimised: the compiler would take longer than the tests gain.
    CGO_ENABLED=0 GOFLAGS=-buildvcs=false go build -trimpath -tags grpcnotrace -gcflags 'all=-N -l -dwarf=false' \
        -ldflags "-s -w$stamp" -o "$CACHE/k8s-$key.new" .
    rm -f "$CACHE"/k8s-????????????????
    mv "$CACHE/k8s-$key.new" "$CACHE/k8s-$key"
fi
for program in k8s etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
    ln -sfn "k8s-$key" "$CACHE/$program"
done
