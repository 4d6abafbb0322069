#!/bin/sh
# Removes what install.sh made. With --data also what the agent keeps: keys, credit, runtimes.
set -eu

data=${XDG_DATA_HOME:-$HOME/.local/share}
app=$data/pleb-cluster/app

if [ -x "$app/pleb-agent" ]; then
    "$app/pleb-agent" stop >/dev/null 2>&1 || true
    "$app/pleb-agent" autostart off >/dev/null 2>&1 || true
fi
[ "$(readlink "$HOME/.local/bin/pleb-agent" 2>/dev/null)" != "$app/pleb-agent" ] ||
    rm "$HOME/.local/bin/pleb-agent"
rm -f "$data/applications/pleb-agent.desktop"
find "$data/icons" -name 'pleb-agent*' -type f -delete 2>/dev/null || true
find "$data/icons" -type d -empty -delete 2>/dev/null || true
rm -rf "$app"
if [ "${1:-}" = --data ]; then
    rm -rf "$data/pleb-cluster/agent"
    rmdir "$data/pleb-cluster" 2>/dev/null || true
else
    echo "What the agent keeps is still in $data/pleb-cluster/agent: delete it if you like."
fi
