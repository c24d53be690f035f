#!/usr/bin/env bash
# Runs go test on the packages given and prints what matters: the whole output
# of a package that failed, the closing line of every package, and each test
# that was skipped with its reason, because a skipped test proves nothing. Each
# test that failed comes once more at the end, with what it said itself.
#
#   [RACE=no] scripts/test.sh [go test flags] package...
#
# The race detector is used unless RACE=no or there is no C compiler.
set -euo pipefail

race=()
if [ "${RACE:-}" = no ]; then
    :
elif command -v "${CC:-gcc}" >/dev/null; then
    export CGO_ENABLED=1
    race=(-race)
else
    echo "skipped: the race detector, for want of a C compiler"
fi

# No cached results: they know nothing of the kernel they were made on, nor
# that they were made without root. make vet does more than go test would of
# its own.
go test -v -vet=off -count=1 -timeout 1h "${race[@]}" "$@" | awk -F '\t' '
    { output = output $0 "\n" }

    /^=== (RUN|NAME|CONT) / { split($0, word, / +/); test = word[3] }
    /^ +[A-Za-z0-9_.-]+\.go:[0-9]+: / { reason[test] = $0; sub(/^ +/, "", reason[test]) }
    /^ *--- SKIP: / {
        split($0, word, /--- SKIP: | \(/)
        skips = skips "        skipped " word[2] ": " reason[word[2]] "\n"
        skipped++
    }

    # What ends the whole package belongs to no test.
    /^(panic|fatal error): / { test = "" }
    /^ *--- FAIL: / { split($0, word, /--- FAIL: | \(/); failed[++failures] = word[2] }
    !/^(=== |ok  \t|FAIL|\?   \t| *--- )/ && lines[test]++ < 100 { own[test] = own[test] $0 "\n" }

    /^(ok  |FAIL|\?   )\t/ {
        if ($1 == "FAIL") {
            printf "%s", output
            summary = summary "\n" $0 "\n" own[""]
            for (i = 1; i <= failures; i++) summary = summary "--- FAIL: " failed[i] "\n" own[failed[i]]
        } else printf "%s\n%s", $0, skips
        fflush()
        output = skips = test = ""
        failures = 0
        split("", reason)
        split("", lines)
        split("", own)
    }

    END {
        if (output != "FAIL\n") printf "%s", output
        if (skipped) printf "%d tests skipped, see above\n", skipped
        if (summary) printf "\nWhat failed, each with its first 100 lines:\n%s", summary
    }'
