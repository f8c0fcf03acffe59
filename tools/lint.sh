#!/bin/bash
# Keeps the shape of design.md section 8: layers, bans, lengths, nothing outside the build, no warnings
# from two compilers. Prints `file:line: what is wrong; what would be right`, ends with `lint: clean`.
# usage: tools/lint.sh [--no-compile]
set -u
PATH=/usr/sbin:/usr/bin:/sbin:/bin
cd "$(dirname "$0")/.." || exit 1
B=${B:-build}

# Regular expressions over paths: the only files that may.
sockets='^common/net[a-z_]*[.]c$'
store='^common/store[a-z_]*[.]c$'
spawners='^(worker/spawn|worker/keeper[a-z_]*|common/spawn|ventilator/run[a-z_]*)[.]c$'
parsers='^common/options[a-z_]*[.]c$'
cores='^(ventilator/ledger|worker/agent|sink/register)[a-z_]*[.][ch]$'

findings=$(mktemp) || exit 1
trap 'rm -f "$findings"' EXIT

# Every file that is or would be in the repository.
if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    mapfile -t files < <(git ls-files -co --exclude-standard | sort -u | while read -r f; do [ -f "$f" ] && echo "$f"; done)
else
    mapfile -t files < <(find . -path ./build -prune -o -path ./.git -prune -o -type f -print | sed 's|^\./||' | sort)
fi
pick() { printf '%s\n' "${files[@]}" | grep -E "$1"; }
mapfile -t c_files < <(pick '^(common|proto|tarmac|ventilator|worker|sink|tests)/.*\.[ch]$')
mapfile -t scripts < <(for f in $(pick '(\.sh|^\.ci/[^/]*)$'); do head -c 60 "$f" | head -n 1 | grep -qE '^#!.*sh' && echo "$f"; done)

lines_of_c() {
    [ ${#c_files[@]} -gt 0 ] || return
    awk -v sockets="$sockets" -v store="$store" -v spawners="$spawners" -v parsers="$parsers" \
        -v cores="$cores" -f tools/lint.awk "${c_files[@]}"
}

lengths() {
    [ ${#c_files[@]} -gt 0 ] || return
    wc -l "${c_files[@]}" | awk '$2 != "total" && $1 > 800 {
        printf "%s:800: the file has %d lines; split it, 800 are the most\n", $2, $1 }'
    ctags -f - --languages=C --langmap=C:+.h --kinds-C=f --fields=+ne "${c_files[@]}" 2>/dev/null |
    awk -F'\t' '{
        first = last = 0
        for (i = 4; i <= NF; i++) {
            if ($i ~ /^line:/) first = substr($i, 6)
            if ($i ~ /^end:/) last = substr($i, 5)
        }
        if (last - first + 1 > 80)
            printf "%s:%d: %s has %d lines; 80 are the most, 40 are plenty: give its parts names\n", $2, first, $1, last - first + 1
    }'
}

# A source file that no rule of the Makefile compiles is a test that never fails.
outside_the_build() {
    local built file
    built=$(make -s --no-print-directory list-sources)
    for file in "${c_files[@]}"; do
        case $file in *.h) continue ;; esac
        grep -qxF "$file" <<<"$built" ||
            printf '%s:1: no rule of the Makefile compiles this file; name it test_*.c (unit, fault), bench_*.c, or add a rule\n' "$file"
    done
    for file in "${scripts[@]}"; do
        case $file in
        tests/e2e/lib.sh | tests/e2e/hosts.sh | tests/e2e/run.sh | tests/e2e/t_*.sh) ;;
        tests/e2e/*.sh) printf '%s:1: tests/e2e/run.sh runs t_*.sh only; rename it\n' "$file" ;;
        esac
    done
}

headers() {
    local file guard
    for file in "${c_files[@]}"; do
        case $file in *.h) ;; *) continue ;; esac
        guard=$(tr 'a-z/.-' 'A-Z___' <<<"$file")
        grep -q "^#ifndef $guard\$" "$file" ||
            printf '%s:1: no include guard of its own name; it would be %s\n' "$file" "$guard"
    done
}

shell_scripts() {
    local file tests
    [ ${#scripts[@]} -gt 0 ] || return
    for file in "${scripts[@]}"; do
        bash -n "$file" 2>&1 | sed 's/: line \([0-9]*\):/:\1:/'
        [ -x "$file" ] || case $file in */lib.sh | */hosts.sh | */t_*.sh) ;; *) printf '%s:1: not executable; chmod +x it\n' "$file" ;; esac
    done
    grep -HnE '[[:blank:]]$' "${scripts[@]}" | sed 's/:\([0-9]*\):.*/:\1: blank at the end of the line; take it away/'
    if command -v shellcheck >/dev/null; then
        shellcheck -x -S warning -f gcc "${scripts[@]}"
    fi
    mapfile -t tests < <(printf '%s\n' "${scripts[@]}" | grep '^tests/')
    [ ${#tests[@]} -gt 0 ] || return
    grep -HnE '(^|[;&|]|\b(do|then|else)\b)[[:blank:]]*sleep\b' "${tests[@]}" |
        sed 's/:\([0-9]*\):.*/:\1: a test that sleeps; use wait_for of tests\/e2e\/lib.sh/'
    grep -HnE 'listen[= ]["'\'']?[a-z:/0-9.]*:[1-9][0-9]*' "${tests[@]}" |
        sed 's/:\([0-9]*\):.*/:\1: fixed port in a test; use port 0 and the ready line/'
}

# Both compilers over everything, warnings being errors; what they print is in the file:line shape already. gcc goes on from
# the objects of the build, which has the same flags; clang warns without optimising as well.
compile() {
    local jobs
    jobs=$(nproc)
    make -s -k -j"$jobs" --no-print-directory B="$B" objects 2>&1 | grep -E '(error|warning):|No rule|\*\*\*'
    make -s -k -j"$jobs" --no-print-directory B="$B/lint-clang" CC=clang OPTIMISE=-O0 objects 2>&1 | grep -E '(error|warning):|No rule|\*\*\*'
}

{
    lines_of_c
    lengths
    outside_the_build
    headers
    shell_scripts
    [ "${1:-}" = --no-compile ] || compile
} >"$findings"

if [ -s "$findings" ]; then
    cat "$findings"
    echo "lint: $(wc -l <"$findings") findings"
    exit 1
fi
echo "lint: clean"
