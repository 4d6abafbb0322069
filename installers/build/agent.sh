#!/bin/sh
# Builds the agent into DIST/agent, with the update address of $UPDATE_URL if that is set.
set -eu

out=${1:-dist}
mkdir -p "$out"
set -- --out "$out/agent"
if [ -n "${UPDATE_URL:-}" ]; then
    printf '%s' "$TUF_ROOT" >"$out/root.json"
    set -- "$@" --update-url "$UPDATE_URL" --root "$out/root.json"
fi
python -m installers.build.build_agent "$@"
rm -f "$out/root.json"
