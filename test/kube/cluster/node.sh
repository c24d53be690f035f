#!/usr/bin/env bash
# node.sh up|down NAME [IMAGE.tar...]: containerd, kubelet and kube-proxy as one
# node, in a network namespace, a mount namespace and cgroups of its own.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
action=$1 name=$2
shift 2
dir=$STATE/$name
netns=$(node_netns "$name")
cgroup=shadowtap-$name # below the root of every hierarchy

# The roots of the cgroup hierarchies: one with cgroup v2, one for each
# controller with v1.
hierarchies() {
    awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts
}

down() {
    local namespace pid
    namespace=$(readlink "/proc/$(cat "$STATE/containerd-$name.pid" 2>/dev/null)/ns/mnt") || namespace=
    # It is the machine's own before containerd has left it, or when the pid is
    # somebody else's by now; the shims in there are not ours.
    [ "$namespace" != "$(readlink /proc/self/ns/mnt)" ] || namespace=
    stop "proxy-$name" "kubelet-$name"
    # The containers' processes are in this node's cgroups, the shims that
    # watch them in its mount namespace.
    hierarchies | while read -r root; do
        [ ! -d "$root/$cgroup" ] || find "$root/$cgroup" -name cgroup.procs -exec cat {} + 2>/dev/null
    done | sort -un | xargs -r kill -9 2>/dev/null || true
    if [ -n "$namespace" ]; then
        for pid in $(pgrep -f '^/usr/bin/containerd-shim'); do
            [ "$(readlink "/proc/$pid/ns/mnt")" != "$namespace" ] || kill -9 "$pid" || true
        done
    fi
    stop "containerd-$name"
    hierarchies | while read -r root; do
        [ ! -d "$root/$cgroup" ] || until_ok "end of $root/$cgroup" 20 \
            sh -c "find '$root/$cgroup' -depth -type d -exec rmdir {} + ; ! [ -d '$root/$cgroup' ]" || true
    done
    rm -rf "/run/shadowtap-$name"
}

# prepare_cgroups makes one folder in each hierarchy, for the kubelet to work in.
prepare_cgroups() {
    local root file
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
        # cgroup v2: what a folder's children may use is named in the folder.
        for controller in cpuset cpu io memory hugetlb pids; do
            echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null || true
        done
    fi
    hierarchies | while read -r root; do
        mkdir -p "$root/$cgroup"
        # cgroup v1: nothing may run in a cpuset before these are set.
        for file in cpus mems; do
            [ ! -e "$root/$cgroup/cpuset.$file" ] || [ -e /sys/fs/cgroup/cgroup.controllers ] ||
                cat "$root/cpuset.$file" >"$root/$cgroup/cpuset.$file"
        done
    done
}

containerd_config() {
    local runc
    runc=$(command -v runc)
    # Bit 24 of the capabilities is CAP_SYS_RESOURCE.
    if (( (0x$(awk '/^CapBnd/ { print $2 }' /proc/self/status) >> 24 & 1) == 0 )); then
        runc=$here/runc-limited
    fi
    cat <<TOML
version = 2
root = "$dir/containerd"
state = "/run/shadowtap-$name/containerd"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "$dir/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/shadowtap/app:test"
  restrict_oom_score_adj = true
  disable_apparmor = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$dir/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "$runc"
      SystemdCgroup = false
TOML
}

cni_config() {
    cat <<JSON
{"cniVersion": "0.4.0", "name": "test", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$dir/ipam",
            "ranges": [[{"subnet": "$(node_pods "$name")"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
}

kubelet_config() {
    cat <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $(node_address "$name")
healthzBindAddress: 127.0.0.1
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $STATE/pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $STATE/pki/$name.crt
tlsPrivateKeyFile: $STATE/pki/$name.key
cgroupDriver: cgroupfs
cgroupRoot: /$cgroup
cgroupsPerQOS: true
enforceNodeAllocatable: []
failSwapOn: false
failCgroupV1: false
containerRuntimeEndpoint: unix://$dir/containerd.sock
podLogsDir: $dir/logs
resolvConf: $dir/resolv.conf
oomScoreAdj: 0
maxOpenFiles: 20000
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 50Mi, nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%}
localStorageCapacityIsolation: false
nodeStatusUpdateFrequency: 5s
syncFrequency: 10s
YAML
}

up() {
    mkdir -p "$dir"/{cni,containerd,kubelet} "/run/shadowtap-$name"
    prepare_cgroups
    containerd_config >"$dir/containerd.toml"
    cni_config >"$dir/cni/10-test.conflist"
    kubelet_config >"$dir/kubelet.yaml"
    : >"$dir/resolv.conf"

    # What is mounted in the node's mount namespace never reaches the machine,
    # and goes with it. The pods' network namespaces and the sockets of the
    # shims are at the places they have on any node.
    cat >"$dir/enter.sh" <<'SH'
mount --make-rprivate /
mount --make-rshared /
mkdir -p /run/netns /run/containerd /run/shadowtap
mount -t tmpfs none /run/netns
mount -t tmpfs none /run/containerd
mount -t tmpfs none /run/shadowtap # or the agents of two nodes would meet
exec "$@"
SH
    start "containerd-$name" nsenter --net="/run/netns/$netns" unshare -m \
        bash "$dir/enter.sh" containerd -c "$dir/containerd.toml"
    until_ok containerd 60 ctr -a "$dir/containerd.sock" version
    local image
    for image in "$@"; do
        ctr -a "$dir/containerd.sock" -n k8s.io images import "$image"
    done

    # The kubelet insists on kernel settings that are the whole machine's; one
    # mount namespace further down they are plain files.
    cat >"$dir/kubelet.sh" <<'SH'
mount --make-private /proc
set_aside() {
    mkdir -p "$F/$(dirname "$1")"
    echo "$2" >"$F/$1"
    mount --bind "$F/$1" "/proc/sys/$1"
}
set_aside vm/overcommit_memory 1
set_aside vm/panic_on_oom 0
set_aside kernel/panic 10
set_aside kernel/panic_on_oops 1
set_aside kernel/keys/root_maxkeys 1000000
set_aside kernel/keys/root_maxbytes 25000000
exec "$@"
SH
    local inside=(nsenter --net="/run/netns/$netns" --mount="/proc/$(cat "$STATE/containerd-$name.pid")/ns/mnt")
    start "kubelet-$name" "${inside[@]}" unshare -m --propagation unchanged env F="$dir/sysctl" bash "$dir/kubelet.sh" \
        "$K8S" kubelet --config "$dir/kubelet.yaml" --kubeconfig "$STATE/$name.kubeconfig" \
        --hostname-override "$name" --node-ip "$(node_address "$name")" --root-dir "$dir/kubelet" --cert-dir "$dir/pki"
    start "proxy-$name" "${inside[@]}" "$K8S" kube-proxy --kubeconfig "$STATE/proxy.kubeconfig" \
        --hostname-override "$name" --proxy-mode iptables --cluster-cidr "$PODS" --oom-score-adj 0 \
        --conntrack-max-per-core 0 --conntrack-tcp-timeout-established 0 --conntrack-tcp-timeout-close-wait 0 \
        --healthz-bind-address 127.0.0.1 --metrics-bind-address 127.0.0.1
}

"$action" "$@"
