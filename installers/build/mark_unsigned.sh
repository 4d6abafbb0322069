#!/bin/sh
# Marks packages without a publisher's signature in their names: a.exe becomes a-unsigned.exe.
# Archives and runtimes keep theirs: the repository's metadata signs them.
set -eu

for file in "${1:-dist}"/*; do
    case "$file" in
        *-unsigned.*) ;;
        *.exe | *.pkg | *.deb | *.rpm) mv "$file" "${file%.*}-unsigned.${file##*.}" ;;
        *.pkg.tar.zst) mv "$file" "${file%.pkg.tar.zst}-unsigned.pkg.tar.zst" ;;
    esac
done
