#!/bin/sh
# Makes the virtual environment and puts the pinned uv into it: venv.sh DIRECTORY. $PYTHON names another interpreter.
# Every way in which a machine can be unfit ends in one line that says what to do.
set -eu

venv=${1:?usage: venv.sh directory}
lock=$(dirname "$0")

fit() { # Is it an interpreter that the locked wheels are made for?
    "$1" -c 'import sys; sys.exit(not sys.version_info >= (3, 11))' 2>/dev/null
}

able() { # Can it make an environment? Debian's cannot without python3-venv.
    "$1" -c 'import ensurepip, venv' 2>/dev/null
}

die() {
    echo "torpor: $*" >&2
    exit 1
}

if [ -n "${PYTHON:-}" ]; then
    fit "$PYTHON" || die "PYTHON=$PYTHON is not a Python 3.11 or newer; name one that is"
    python=$PYTHON
else
    python=
    # Those with wheels for every package come first: on 3.14 coincurve, which libp2p needs, still wants a C compiler. Of one version, the
    # system's own comes first: distributions compile it guided by a profile, which pyenv and its like do not by themselves (decision 0006).
    for candidate in /usr/bin/python3.11 python3.11 /usr/bin/python3.12 python3.12 /usr/bin/python3.13 python3.13 python3 python; do
        fit "$candidate" || continue
        python=${python:-$candidate} # so that what is missing is said of the first
        if able "$candidate"; then
            python=$candidate
            break
        fi
    done
    [ -n "$python" ] || die "no Python 3.11 or newer found on PATH (python3 is $(python3 --version 2>/dev/null || echo missing));" \
        "install one, or run make with PYTHON=/path/to/python3.11"
fi

echo "torpor: making $venv with $("$python" --version) ($python)"
if ! "$python" -m venv "$venv"; then
    rm -rf "$venv"
    die "$python cannot make a virtual environment; on Debian and Ubuntu install the package python3-venv"
fi
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --requirement "$lock/uv.txt" ||
    die "pip could not install uv, see above; is there a way to a package index from here?"
touch "$venv/bin/uv" # newer than the lock that it came from, whatever time its wheel carries
