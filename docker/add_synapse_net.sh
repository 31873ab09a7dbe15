#!/bin/bash
# Adds SynapseNet's own package to the environment of the image: add_synapse_net.sh true|false
set -euo pipefail
fail() {
    echo "error: $1" >&2
    exit 2
}
case "${1:-}" in
    false) exit 0 ;;
    true) ;;
    *) fail "WITH_SYNAPSE_NET must be true or false, received '${1:-}'" ;;
esac
remedy="give the build a network that reaches both, or build with WITH_SYNAPSE_NET=false (its published weights load without it)"
# The commit is pinned in one place, the extra of pyproject.toml.
requirement=$(python -c "
import tomllib
with open('pyproject.toml', 'rb') as file:
    print(*tomllib.load(file)['project']['optional-dependencies']['synapse_net'])
")
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends git; } >/dev/null ||
    fail "WITH_SYNAPSE_NET=true needs git from Debian's archive, which cannot be had: $remedy"
# What it depends on is in requirements.txt, pinned.
/opt/uv/bin/uv pip install --quiet --no-deps --compile-bytecode "$requirement" ||
    fail "WITH_SYNAPSE_NET=true needs $requirement, which cannot be had: $remedy"
