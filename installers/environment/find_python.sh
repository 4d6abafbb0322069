#!/bin/sh
# Prints a Python that can run installers/environment/setup_env.py: 3.11 or newer, with venv.
#
#     find_python.sh VENV          uses VENV's own Python where that already works,
#                                  else $PYTHON if set, else the first good one on the PATH
set -eu

oldest=3.11

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

can_make_environments() {
    "$1" -c 'import venv, ensurepip' >/dev/null 2>&1
}

fail() {
    echo "$1" >&2
    exit 1
}

explain_missing_venv() {
    version=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    fail "$1 (Python $version) lacks the venv module: install it (Debian, Ubuntu: apt-get install python$version-venv) and run make again."
}

if is_new_enough "$1/bin/python" && "$1/bin/python" -m pip --version >/dev/null 2>&1; then
    echo "$1/bin/python"
    exit
fi

if [ -n "${PYTHON:-}" ]; then
    is_new_enough "$PYTHON" || fail "PYTHON=$PYTHON is not a working Python $oldest or newer: name another one."
    can_make_environments "$PYTHON" || explain_missing_venv "$PYTHON"
    echo "$PYTHON"
    exit
fi

without_venv=
for candidate in python3 python3.13 python3.12 python3.11 python3.14; do
    is_new_enough "$candidate" || continue
    if can_make_environments "$candidate"; then
        echo "$candidate"
        exit
    fi
    without_venv=${without_venv:-$candidate}
done

[ -z "$without_venv" ] || explain_missing_venv "$without_venv"
fail "Pleb-Cluster needs Python $oldest or newer and found none: install one, or name it with make PYTHON=/path/to/python3 ..."
