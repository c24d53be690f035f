# Sourced by the scripts beside it: where things are, and how programs are
# started and ended.
# shellcheck shell=bash disable=SC2034

export STATE=${SHADOWTAP_KUBE_STATE:-/tmp/shadowtap-kube}  # all that a cluster writes; sockets want it short
export CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/shadowtap-kube # what takes minutes to build
export K8S=$CACHE/k8s
export KUBECONFIG=$STATE/admin.kubeconfig
export PATH=$PATH:/usr/sbin:/sbin

export API=10.99.0.1 SERVICES=10.96.0.0/16 PODS=10.244.0.0/16
# The nodes are network namespaces: shadowtap-n1 has 10.99.0.11, and pods in
# 10.244.1.0/24. The control plane and the switch are shadowtap-cp.
NODES=(n1 n2)
CONTROL_PLANE=shadowtap-cp
node_netns() { echo "shadowtap-$1"; }
node_address() { echo "10.99.0.1${1#n}"; }
node_pods() { echo "10.244.${1#n}.0/24"; }

# within NETNS COMMAND...: `ip netns exec` would hide the cgroups.
within() { nsenter --net="/run/netns/$1" "${@:2}"; }
kubectl() { within "$CONTROL_PLANE" "$K8S" kubectl "$@"; }

# start NAME COMMAND...: in the background, with a log and a pid file.
start() {
    "${@:2}" >"$STATE/$1.log" 2>&1 </dev/null &
    echo $! >"$STATE/$1.pid"
}

# alive PID: it runs, and is not only waiting to be reaped.
alive() {
    local stat
    stat=$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) && [ "${stat%% *}" != Z ]
}

# stop NAME...: ends what start started, by its pid.
stop() {
    local name pid
    for name in "$@"; do
        [ -f "$STATE/$name.pid" ] || continue
        pid=$(cat "$STATE/$name.pid")
        kill "$pid" 2>/dev/null || true
        for _ in $(seq 50); do
            alive "$pid" || break
            sleep 0.1
        done
        kill -9 "$pid" 2>/dev/null || true
        rm -f "$STATE/$name.pid"
    done
}

# until_ok WHAT SECONDS COMMAND...: until it succeeds.
until_ok() {
    local what=$1 deadline=$((SECONDS + $2))
    shift 2
    until "$@" >/dev/null 2>&1; do
        if [ $SECONDS -ge $deadline ]; then
            echo "no $what after all that time" >&2
            return 1
        fi
        sleep 0.2
    done
}
