#!/usr/bin/env bash
# network.sh up|down: a switch with the control plane, and the nodes around it,
# each a network namespace. No way leads out of them.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

if [ "$1" = down ]; then
    for n in "${NODES[@]}"; do
        ip netns del "$(node_netns "$n")" 2>/dev/null || true
    done
    ip netns del "$CONTROL_PLANE" 2>/dev/null || true
    exit 0
fi

ip netns add "$CONTROL_PLANE"
ip -n "$CONTROL_PLANE" link set lo up
ip -n "$CONTROL_PLANE" link add br0 type bridge
ip -n "$CONTROL_PLANE" addr add "$API/24" dev br0
ip -n "$CONTROL_PLANE" link set br0 up
for n in "${NODES[@]}"; do
    netns=$(node_netns "$n")
    ip netns add "$netns"
    ip -n "$netns" link set lo up
    ip -n "$netns" link add eth0 type veth peer name "$n" netns "$CONTROL_PLANE"
    ip -n "$CONTROL_PLANE" link set "$n" master br0 up
    ip -n "$netns" addr add "$(node_address "$n")/24" dev eth0
    ip -n "$netns" link set eth0 up
    ip -n "$netns" route add default via "$API"
    within "$netns" sysctl -qw net.ipv4.ip_forward=1
    ip -n "$CONTROL_PLANE" route add "$(node_pods "$n")" via "$(node_address "$n")"
    for other in "${NODES[@]}"; do
        [ "$other" = "$n" ] || ip -n "$netns" route add "$(node_pods "$other")" via "$(node_address "$other")"
    done
done
