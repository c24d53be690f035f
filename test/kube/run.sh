#!/usr/bin/env bash
# Everything from a fresh machine to tests on a cluster, as root: packages,
# Kubernetes, images, the cluster, the tests, and no cluster.
#
#   run.sh [go test flags]
#
# KEEP=1 leaves the cluster up, and uses the one that is with new images.
set -euo pipefail
cd "$(dirname "$0")/../.."
cluster=test/kube/cluster

$cluster/setup.sh
images=bin/kube
mkdir -p "$images"
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
platform=linux/$(go env GOARCH)
(
    cd deploy/image
    go run . -version test -platforms "$platform" -o "../../$images/shadowtap.tar"
    go run . -version test -platforms "$platform" -o "../../$images/app.tar" \
        -program test/kube/app -repository localhost/shadowtap/app
)
if [ -n "${KEEP:-}" ] && [ -e /run/netns/shadowtap-cp ]; then
    $cluster/cluster.sh load "$images"/*.tar
else
    # It removes what it made if it fails, and another's cluster is not ours to
    # remove.
    $cluster/cluster.sh up "$images"/*.tar
    [ -n "${KEEP:-}" ] || trap '$cluster/cluster.sh down' EXIT
fi
SHADOWTAP_KUBE=1 go test -count=1 -p 1 -timeout 60m -v "$@" ./test/kube/...
