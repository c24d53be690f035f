#!/usr/bin/env bash
# control-plane.sh up|down: etcd, API server, controllers and scheduler, in the
# network namespace of the switch.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

if [ "$1" = down ]; then
    stop api-proxy scheduler controllers apiserver etcd
    exit 0
fi

pki=$STATE/pki
begin() { start "$1" nsenter --net="/run/netns/$CONTROL_PLANE" "$K8S" "${@:2}"; }

begin etcd etcd --data-dir "$STATE/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380
begin apiserver kube-apiserver --etcd-servers http://127.0.0.1:2379 \
    --bind-address "$API" --advertise-address "$API" --secure-port 6443 \
    --tls-cert-file "$pki/apiserver.crt" --tls-private-key-file "$pki/apiserver.key" --client-ca-file "$pki/ca.crt" \
    --kubelet-certificate-authority "$pki/ca.crt" --kubelet-preferred-address-types InternalIP \
    --kubelet-client-certificate "$pki/apiserver-kubelet.crt" --kubelet-client-key "$pki/apiserver-kubelet.key" \
    --service-account-issuer https://kubernetes.default.svc \
    --service-account-key-file "$pki/service-accounts.key" --service-account-signing-key-file "$pki/service-accounts.key" \
    --service-cluster-ip-range "$SERVICES" --authorization-mode Node,RBAC --allow-privileged
if ! until_ok "API server" 180 kubectl get --raw /readyz; then
    tail -20 "$STATE/apiserver.log" >&2
    exit 1
fi
# For the tests: the API without certificates, within the switch.
begin api-proxy kubectl proxy --port 8001
begin controllers kube-controller-manager --kubeconfig "$STATE/controllers.kubeconfig" --leader-elect=false \
    --use-service-account-credentials --service-account-private-key-file "$pki/service-accounts.key" \
    --root-ca-file "$pki/ca.crt" --bind-address 127.0.0.1 \
    --controllers '*,-bootstrap-signer-controller,-token-cleaner-controller,-certificatesigningrequest-signing-controller'
begin scheduler kube-scheduler --kubeconfig "$STATE/scheduler.kubeconfig" --leader-elect=false --bind-address 127.0.0.1
