#!/bin/bash
# Installs the Debian packages that are missing, and says which. With everything in place it asks
# dpkg once and is done.
# usage: tools/setup.sh [build|metrics|lint|fuzz|bench|browser|containers]...      without a group: build
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin

say() { printf 'setup: %s\n' "$*" >&2; }
give_up() { say "$*"; exit 1; }

declare -A groups=(
    [build]="gcc libc6-dev make pkg-config libzmq3-dev libczmq-dev libprotobuf-c-dev
             protobuf-c-compiler libsqlite3-dev libjansson-dev libmicrohttpd-dev uthash-dev libbsd-dev libncurses-dev libcmocka-dev
             curl imagemagick iproute2 iptables jq procps python3 sqlite3 tmux util-linux"
    [metrics]="prometheus"
    [fuzz]="clang libclang-rt-dev"
    [bench]="beanstalkd parallel redis-server"
    [npm]="npm"
    [browser]="chromium fonts-dejavu-core imagemagick nodejs"
    [lint]="clang universal-ctags shellcheck git"
    [containers]="docker.io docker-compose debootstrap git"
)

[ $# -gt 0 ] || set -- build
wanted=()
for group in "$@"; do
    [ -n "${groups[$group]:-}" ] ||
        give_up "no group of packages is called '$group'; there are: ${!groups[*]}"
    read -ra names -d '' <<<"${groups[$group]}" || true
    wanted+=("${names[@]}")
done

command -v dpkg-query >/dev/null ||
    give_up "this script knows Debian only (no dpkg here); install by hand what these packages hold: ${wanted[*]}"

installed=$(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' "${wanted[@]}" 2>/dev/null |
            sed -n 's/^ii \{1,\}//p') || true
missing=()
for name in "${wanted[@]}"; do
    grep -qxF "$name" <<<"$installed" || missing+=("$name")
done
[ ${#missing[@]} -gt 0 ] || exit 0

say "installing: ${missing[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null ||
        give_up "not root and no sudo here; as root run: apt-get install ${missing[*]}"
    as_root=(sudo)
fi

# Package lists of a fresh machine are absent or old: they are read anew only when something is missing.
# The time limit on the lock is for machines that update themselves after their start.
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120)
"${apt[@]}" update >&2 || say "could not read all package lists; going on with those that are here"
"${apt[@]}" install -y --no-install-recommends "${missing[@]}" >&2 ||
    give_up "could not install: ${missing[*]} (apt-get's own words are above)"
