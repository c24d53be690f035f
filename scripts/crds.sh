#!/usr/bin/env bash
# Prints the definitions (CRDs) of the kinds of rules, of the versions that
# shadowtap is built with, for a cluster that has no mesh:
#
#   scripts/crds.sh | kubectl apply --server-side -f -
#
# They are those of Istio and of the Gateway API's standard channel, from the
# Go modules that go.mod names. The admission policy beside the latter is left
# out: it would decide which definitions a mesh may install later.
set -euo pipefail
cd "$(dirname "$0")/.."

module() {
    go mod download "$1"
    go list -m -f '{{.Dir}}' "$1"
}
cat "$(module istio.io/api)/kubernetes/customresourcedefinitions.gen.yaml"
for file in "$(module sigs.k8s.io/gateway-api)"/config/crd/standard/*.yaml; do
    [[ $file != *_vap_* ]] || continue
    printf -- '---\n'
    cat "$file"
done
