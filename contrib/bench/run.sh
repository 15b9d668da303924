#!/usr/bin/env bash
# Measures this tree's build on a cluster of its own: starts it, runs bench.sh,
# stops it.   run.sh [TEST...]   (none: all; variables as in bench.sh and cluster.sh)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
PEER_DIR=$(mktemp -d) PEER_PORT=${PEER_PORT:-27800}
chmod 755 "$PEER_DIR"
export PEER_DIR PEER_PORT CLUSTER=$here/cluster.sh STATE=$PEER_DIR/state TAG=${TAG-sluice}
trap '"$CLUSTER" wipe' EXIT
"$CLUSTER" up
eval "$("$CLUSTER" env)"
[ $# -gt 0 ] || set -- all
bash "$here/bench.sh" "$@"
