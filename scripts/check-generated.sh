#!/usr/bin/env bash
# Compiles bpf/ in a copy of the tree and compares the result with what is
# committed. Compilers differ in the code they write, so only the pinned one
# can tell whether the object is stale; another one tells whether the program
# compiles.
set -euo pipefail

pinned=14 # Debian 12

if ! command -v clang >/dev/null; then
    echo "skipped: check-generated, for want of clang"
    exit 0
fi
version=$(clang --version | sed -n 's/.*clang version \([0-9]*\).*/\1/p')

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
mkdir "$copy/pkg"
cp -R go.mod go.sum bpf "$copy"
cp -R pkg/capture "$copy/pkg"
rm -f "$copy"/pkg/capture/*_bpfel.{go,o}
(cd "$copy" && go generate ./pkg/capture)

if [ "$version" != "$pinned" ]; then
    echo "bpf/ compiles with clang $version; only clang $pinned can tell whether the committed object is up to date"
    exit 0
fi
if ! diff -r --brief pkg/capture "$copy/pkg/capture"; then
    echo "pkg/capture is not what bpf/ compiles to: run make generate with clang $pinned and commit the result" >&2
    exit 1
fi
echo "pkg/capture is what bpf/ compiles to with clang $pinned"
