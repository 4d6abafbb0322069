#!/bin/sh
# Installs this archive for the user who runs it, without root:
#     tar -xf pleb-agent-VERSION-linux-x86_64.tar.gz -C somewhere && somewhere/install.sh
# From then on the agent updates itself. `uninstall.sh` beside the installed agent removes it.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
data=${XDG_DATA_HOME:-$HOME/.local/share}
app=$data/pleb-cluster/app
version=$(sed -n 's/.*"version": *"\([^"]*\)".*/\1/p' "$here/_internal/pleb-build/build.json")
folder=$app/versions/$version

[ -n "$version" ] || { echo "This archive is damaged: get it again." >&2; exit 1; }

mkdir -p "$app/versions" "$HOME/.local/bin" "$data/applications"
if [ "$here" != "$folder" ]; then
    rm -rf "$folder.part" "$folder"
    cp -R "$here" "$folder.part"
    mv "$folder.part" "$folder"
fi
ln -sfn "versions/$version" "$app/current.new"
mv -T "$app/current.new" "$app/current"
ln -sfn current/pleb-agent "$app/pleb-agent"
ln -sfn current/uninstall.sh "$app/uninstall.sh"
ln -sfn "$app/pleb-agent" "$HOME/.local/bin/pleb-agent"

mkdir -p "$data/icons"
cp -R "$here/share/icons/." "$data/icons/"
sed "s|^Exec=pleb-agent|Exec=\"$app/pleb-agent\"|" "$here/share/pleb-agent.desktop" \
    >"$data/applications/pleb-agent.desktop"

echo "Installed version $version in $app. Start it: $HOME/.local/bin/pleb-agent start"
