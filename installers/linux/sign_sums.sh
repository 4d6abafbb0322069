#!/bin/sh
# Writes DIST/SHA256SUMS of the packages, signed if $LINUX_GPG_KEY (an armoured private key) is set.
set -eu

cd "${1:-dist}"
sha256sum -- *.deb *.rpm *.pkg.tar.zst *.tar.xz >SHA256SUMS
if [ -n "${LINUX_GPG_KEY:-}" ]; then
    printf '%s' "$LINUX_GPG_KEY" | gpg --batch --import
    gpg --batch --yes --armor --detach-sign SHA256SUMS
fi
