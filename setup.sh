#!/bin/sh
# Makes .venv and installs the pinned, hashed requirements into it: setup.sh PYTHON
set -eu
python=${1:-}
if [ -z "$python" ] || ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "error: Python 3.11 or newer is needed, found: ${python:-none}; install it, or give make PYTHON=..." >&2
    exit 2
fi
cd "$(dirname "$0")"

# Debian keeps venv's pip in a package of its own.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null
    else
        echo "error: $python cannot make environments; run: sudo apt-get install python3-venv" >&2
        exit 2
    fi
fi
[ -x .venv/bin/pip ] || "$python" -m venv --clear .venv
.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.txt

# uv installs in seconds what takes pip minutes. It has settings of its own for where to look.
[ -z "${PIP_INDEX_URL:-}" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$PIP_INDEX_URL}"
if ! .venv/bin/uv pip sync --python .venv --require-hashes --compile-bytecode \
    requirements.txt requirements-dev.txt requirements-uv.txt; then
    echo "uv could not install the requirements; trying pip, which takes longer" >&2
    .venv/bin/pip install --disable-pip-version-check --require-hashes -r requirements.txt -r requirements-dev.txt
fi
