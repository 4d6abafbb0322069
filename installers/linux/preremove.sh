#!/bin/sh
# Before the package is removed: stop the agents that run from it, so that none runs without its files.
# An upgrade leaves them alone. The homes of users are never touched.
set -eu

case "${1:-remove}" in
    upgrade | 1) exit 0 ;; # dpkg says "upgrade", rpm counts what remains
esac

agents() {
    for exe in /proc/[0-9]*/exe; do
        if [ "$(readlink "$exe" 2>/dev/null)" = /usr/lib/pleb-cluster/pleb-agent ]; then
            pid=${exe#/proc/}
            echo "${pid%/exe}"
        fi
    done
}

for pid in $(agents); do
    kill -TERM "$pid" 2>/dev/null || true
done
for _ in 1 2 3 4 5 6 7 8 9 10; do
    [ -n "$(agents)" ] || exit 0
    sleep 1
done
for pid in $(agents); do
    kill -KILL "$pid" 2>/dev/null || true
done
