#!/usr/bin/env bash
# Runs go test on the packages given and prints what matters: the whole output
# of a package that failed, the closing line of every package, and each test
# that was skipped with its reason, because a skipped test proves nothing.
#
#   scripts/test.sh [go test flags] package...
set -euo pipefail

race=()
if command -v "${CC:-gcc}" >/dev/null; then
    export CGO_ENABLED=1
    race=(-race)
else
    echo "skipped: the race detector, for want of a C compiler"
fi

# No cached results: they know nothing of the kernel they were made on, nor
# that they were made without root.
go test -v -count=1 -timeout 10m "${race[@]}" "$@" | awk -F '\t' '
    { output = output $0 "\n" }

    /^=== (RUN|NAME|CONT) / { split($0, word, / +/); test = word[3] }
    /^ +[A-Za-z0-9_.-]+\.go:[0-9]+: / { reason[test] = $0; sub(/^ +/, "", reason[test]) }
    /^ *--- SKIP: / {
        split($0, word, /--- SKIP: | \(/)
        skips = skips "        skipped " word[2] ": " reason[word[2]] "\n"
        skipped++
    }

    /^(ok  |FAIL|\?   )\t/ {
        if ($1 == "FAIL") printf "%s", output
        else printf "%s\n%s", $0, skips
        fflush()
        output = skips = test = ""
        split("", reason)
    }

    END {
        if (output != "FAIL\n") printf "%s", output
        if (skipped) printf "%d tests skipped, see above\n", skipped
    }'
