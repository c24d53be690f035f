#!/usr/bin/env bash
# A real Kubernetes of two nodes on this machine: containerd, kubelet, bridge
# CNI and kube-proxy, in network namespaces without a way out.
#
#   cluster.sh up IMAGE.tar...      brings it up; every node gets the images
#   cluster.sh load IMAGE.tar...    gives the nodes more images
#   cluster.sh kubectl ARGUMENT...
#   cluster.sh down                 leaves nothing behind
#
# There is one at a time. Needs root and what setup.sh installs.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

down() {
    for n in "${NODES[@]}"; do
        bash "$here/node.sh" down "$n"
    done
    bash "$here/control-plane.sh" down
    bash "$here/network.sh" down
    rmdir /run/shadowtap 2>/dev/null || true # what the nodes' were mounted on
    rm -rf "$STATE"
}

failed() {
    tail -n 5 "$STATE"/*.log >&2 || true # nothing may have been started
    down
}

up() {
    # The names of the namespaces are the same wherever the state is.
    if [ -e "/run/netns/$CONTROL_PLANE" ] || ! mkdir "$STATE" 2>/dev/null; then
        echo "there is a cluster already, or what is left of one: $0 down" >&2
        exit 1
    fi
    trap failed EXIT
    bash "$here/network.sh" up
    bash "$here/pki.sh"
    bash "$here/control-plane.sh" up
    for n in "${NODES[@]}"; do
        bash "$here/node.sh" up "$n" "$@"
    done
    for n in "${NODES[@]}"; do
        until_ok "node $n" 120 kubectl get node "$n"
    done
    kubectl wait --for=condition=Ready node --all --timeout=180s
    trap - EXIT
}

load() {
    local n image
    for n in "${NODES[@]}"; do
        for image in "$@"; do
            ctr -a "$STATE/$n/containerd.sock" -n k8s.io images import "$image"
        done
    done
}

case ${1:-} in
up | load | down) "$@" ;;
kubectl) "$@" ;;
*)
    sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
