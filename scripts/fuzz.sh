#!/usr/bin/env bash
# Runs every fuzz target there is, one after the other.
#
#   scripts/fuzz.sh TIME [package...]   # time per target, as in go test -fuzztime
set -euo pipefail

time=${1:?usage: scripts/fuzz.sh TIME [package...]}
shift
[ $# -gt 0 ] || set -- ./...

# One line per target: "package target".
targets=$(go test -list '^Fuzz' "$@" | awk '
    /^Fuzz/ { names[++n] = $1; next }
    /^ok/ { for (i = 1; i <= n; i++) print $2, names[i]; n = 0 }')
if [ -z "$targets" ]; then
    echo "no fuzz targets found" >&2
    exit 1
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0
while read -r package target; do
    echo "fuzz $target ($package) for $time"
    if go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package" >"$log" 2>&1; then
        tail -n 1 "$log"
    # Until Go 1.27 the fuzzer may take its own time limit for a failure
    # (go.dev/issue/75804). A real one says more and leaves its input behind.
    elif grep -A 1 '^--- FAIL: ' "$log" | grep -qx '    context deadline exceeded' &&
        ! grep -q 'Failing input written' "$log"; then
        echo "ok  	$package	(ended by the time limit)"
    else
        cat "$log"
        failed=1
    fi
done <<<"$targets"
exit "$failed"
