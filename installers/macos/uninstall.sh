#!/bin/sh
# Removes the agent from this Mac. With --data also what it keeps: keys, credit, runtimes.
set -eu

app=/Applications/Pleb-Cluster.app
program=$app/Contents/MacOS/pleb-agent

if [ -x "$program" ]; then
    "$program" stop >/dev/null 2>&1 || true
    "$program" autostart off >/dev/null 2>&1 || true
fi
sudo rm -rf "$app"
sudo pkgutil --forget org.pleb-cluster >/dev/null 2>&1 || true
if [ "${1:-}" = --data ]; then
    rm -rf "$HOME/Library/Application Support/pleb-cluster"
fi
