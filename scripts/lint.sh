#!/usr/bin/env bash
# Checks style with the tools that are installed and names those that are not.
set -euo pipefail

failed=0
have() {
    command -v "$1" >/dev/null || { echo "skipped: $1 is not installed"; return 1; }
}

unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
    printf 'not formatted by gofmt:\n%s\n' "$unformatted"
    failed=1
fi

if have golangci-lint; then
    golangci-lint run ./... || failed=1
else
    go vet ./... || failed=1
fi

# Versions of clang-format disagree; this one goes with the pinned clang.
if have clang-format; then
    if clang-format --version | grep -q 'version 14\.'; then
        find bpf -name '*.[ch]' -exec clang-format --dry-run --Werror {} + || failed=1
    else
        echo "skipped: clang-format is not version 14"
    fi
fi

if have shellcheck; then
    shellcheck -x -P SCRIPTDIR scripts/*.sh test/kube/*.sh test/kube/cluster/* .ci/run || failed=1
fi
[ "$failed" = 0 ] || echo "make format mends what is about layout" >&2
exit "$failed"
