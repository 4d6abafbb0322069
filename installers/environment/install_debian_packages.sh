#!/bin/sh
# Installs the packages of debian-packages.txt that are missing, as root or with sudo.
set -eu

wanted=$(grep -v '^#' "$(dirname "$0")/debian-packages.txt" | tr '\n' ' ')

fail() {
    echo "$1" >&2
    exit 1
}

is_installed() {
    [ "$(dpkg-query --show --showformat '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

command -v dpkg-query >/dev/null || fail "make test-system needs Debian or a relative of it, with: $wanted"

missing=
for package in $wanted; do
    is_installed "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null; then
    as_root=sudo
else
    fail "Run this as root, then make test-system again: apt-get install$missing"
fi

echo "Installing Debian packages:$missing"
$as_root apt-get update --quiet=2
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends $missing >/dev/null
