#!/usr/bin/env bash
# Keys, certificates and kubeconfigs of a cluster that lives for an hour.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

pki=$STATE/pki
mkdir -p "$pki"
cd "$pki"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=shadowtap-test-ca \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign \
    -keyout ca.key -out ca.crt 2>/dev/null
openssl genrsa -out service-accounts.key 2048 2>/dev/null

# certificate NAME SUBJECT [SUBJECT-ALTERNATIVE-NAMES]
certificate() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "$2" -keyout "$1.key" -out "$1.csr" 2>/dev/null
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out "$1.crt" \
        -extfile <(printf 'extendedKeyUsage=serverAuth,clientAuth\n%s\n' "${3:+subjectAltName=$3}") 2>/dev/null
    rm "$1.csr"
}

# kubeconfig NAME: for the client certificate of that name.
kubeconfig() {
    cat >"$STATE/$1.kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "https://$API:6443", certificate-authority: $pki/ca.crt}}]
users: [{name: $1, user: {client-certificate: $pki/$1.crt, client-key: $pki/$1.key}}]
contexts: [{name: test, context: {cluster: test, user: $1}}]
current-context: test
YAML
}

certificate apiserver /CN=kube-apiserver "IP:127.0.0.1,IP:$API,IP:10.96.0.1,DNS:kubernetes.default.svc"
certificate apiserver-kubelet /O=system:masters/CN=apiserver-kubelet
certificate admin /O=system:masters/CN=admin
certificate controllers /CN=system:kube-controller-manager
certificate scheduler /CN=system:kube-scheduler
certificate proxy /CN=system:kube-proxy
for n in "${NODES[@]}"; do
    certificate "$n" "/O=system:nodes/CN=system:node:$n" "DNS:$n,IP:$(node_address "$n")"
done
for name in admin controllers scheduler proxy "${NODES[@]}"; do
    kubeconfig "$name"
done
