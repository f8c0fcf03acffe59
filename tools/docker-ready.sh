#!/bin/bash
# Makes containers possible on a bare Debian, for the compose test: a Docker daemon when none runs, and
# the base image when it is absent (made by debootstrap from Debian's packages, so that nothing but
# Debian's own archive is needed). Prints the id of the daemon that it started, or nothing.
# usage: tools/docker-ready.sh LOG
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
log=${1:?usage: tools/docker-ready.sh LOG}
base=debian:bookworm-slim

exec {nothing}<> <(:)
if ! docker info >/dev/null 2>&1; then
    [ "$(id -u)" -eq 0 ] || { echo "docker-ready: no Docker daemon answers, and only root can start one" >&2; exit 1; }
    setsid dockerd >"$log" 2>&1 </dev/null &
    daemon=$!
    for ((i = 0; i < 120; i++)); do
        docker info >/dev/null 2>&1 && break
        kill -0 "$daemon" 2>/dev/null || { echo "docker-ready: dockerd ended; it said:" >&2; tail -n 20 "$log" >&2; exit 1; }
        read -rt 0.5 -u "$nothing" || true
    done
    docker info >/dev/null 2>&1 || { echo "docker-ready: dockerd does not answer after 60 s" >&2; tail -n 20 "$log" >&2; exit 1; }
    echo "$daemon"
fi

if ! docker image inspect "$base" >/dev/null 2>&1; then
    root=$(mktemp -d)
    trap 'rm -rf "$root"' EXIT
    echo "docker-ready: making $base with debootstrap" >&2
    debootstrap --variant=minbase bookworm "$root" >"$root.log" 2>&1 ||
        { tail -n 20 "$root.log" >&2; rm -f "$root.log"; exit 1; }
    rm -f "$root.log"
    # What Debian's own slim images leave out.
    tar -C "$root" --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*_*' --exclude='./usr/share/man/*' --exclude='./usr/share/info/*' \
        --exclude='./usr/share/locale/*' --exclude='./usr/share/doc/*/[!c]*' --exclude='./var/log/*.log' -c . | docker import - "$base" >/dev/null
fi
