#!/usr/bin/env bash
# Runs every fuzz target there is, one after the other.
#
#   scripts/fuzz.sh TIME [package...]   # time per target, as in go test -fuzztime
set -euo pipefail

time=${1:?usage: scripts/fuzz.sh TIME [package...]}
shift
[ $# -gt 0 ] || set -- ./...

# One line per package: where it is, its name and its test files. They are
# searched for targets, because go test -list would compile every package first.
packages=$(go list -f '{{.Dir}} {{.ImportPath}}{{range .TestGoFiles}} {{.}}{{end}}{{range .XTestGoFiles}} {{.}}{{end}}' "$@")
corpora=$(go env GOCACHE)/fuzz

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
binary=$work/fuzz.test log=$work/log
found=0 failed=0
while read -r dir package files; do
    [ -n "$files" ] || continue
    cd "$dir"
    # shellcheck disable=SC2086 # the names are words
    targets=$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $files)
    [ -n "$targets" ] || continue
    # With -fuzz it is compiled for fuzzing, once for all targets of the package.
    go test -c -vet=off -fuzz . -o "$binary" .
    for target in $targets; do
        found=1
        echo "fuzz $target ($package) for $time"
        if "$binary" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "$time" \
            -test.fuzzcachedir "$corpora/$package" -test.paniconexit0 >"$log" 2>&1; then
            echo "ok  	$(grep '^fuzz: elapsed: ' "$log" | tail -n 1)"
        # Until Go 1.27 the fuzzer may take its own time limit for a failure
        # (go.dev/issue/75804). A real one says more and leaves its input behind.
        elif grep -A 1 '^--- FAIL: ' "$log" | grep -qx '    context deadline exceeded' &&
            ! grep -q 'Failing input written' "$log"; then
            echo "ok  	(ended by the time limit)"
        else
            cat "$log"
            failed=1
        fi
    done
done <<<"$packages"
if [ "$found" = 0 ]; then
    echo "no fuzz targets found" >&2
    exit 1
fi
exit "$failed"
