#!/bin/sh
# Signs, packages and notarises what build_agent.py made, as far as the environment has the means:
#   MACOS_CERTIFICATE (base64 of a .p12 with both identities), MACOS_CERTIFICATE_PASSWORD,
#   MACOS_IDENTITY, MACOS_INSTALLER_IDENTITY, NOTARY_APPLE_ID, NOTARY_TEAM_ID, NOTARY_PASSWORD
set -eu

out=${1:-dist}

if [ -n "${MACOS_CERTIFICATE:-}" ]; then
    keychain=$RUNNER_TEMP/signing.keychain-db
    password=$(uuidgen)
    echo "$MACOS_CERTIFICATE" | base64 --decode >"$RUNNER_TEMP/certificate.p12"
    security create-keychain -p "$password" "$keychain"
    security unlock-keychain -p "$password" "$keychain"
    security import "$RUNNER_TEMP/certificate.p12" -k "$keychain" \
        -P "$MACOS_CERTIFICATE_PASSWORD" -T /usr/bin/codesign -T /usr/bin/pkgbuild
    security set-key-partition-list -S apple-tool:,apple: -k "$password" "$keychain" >/dev/null
    security list-keychains -d user -s "$keychain"
    rm "$RUNNER_TEMP/certificate.p12"
    set -- --identity "$MACOS_IDENTITY" --installer-identity "$MACOS_INSTALLER_IDENTITY"
else
    set --
fi

package=$(python -m installers.build.build_macos --app "$out/agent/pleb-agent.app" --out "$out" "$@" | tail -n 1)

if [ -n "${NOTARY_PASSWORD:-}" ]; then
    xcrun notarytool submit "$package" --wait --apple-id "$NOTARY_APPLE_ID" \
        --team-id "$NOTARY_TEAM_ID" --password "$NOTARY_PASSWORD"
    xcrun stapler staple "$package"
fi
