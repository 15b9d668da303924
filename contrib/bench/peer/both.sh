#!/usr/bin/env bash
# Measures Debian's Slurm and this tree's build in turn, with one script, so that
# the figures are of one machine in one sitting.   both.sh [TEST...]   (as root)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ $# -gt 0 ] || set -- spawn sbatch submit array srun steps e2e query restart crash survive
command -v slurmdbd >/dev/null && command -v mariadbd >/dev/null || bash "$here/install.sh"
echo "# Slurm: $(/usr/sbin/slurmctld -V)"
(
	PEER_DIR=$(mktemp -d) PEER_PORT=${PEER_PORT:-28800}
	chmod 755 "$PEER_DIR"
	export PEER_DIR PEER_PORT CLUSTER=$here/cluster.sh STATE=$PEER_DIR/state TAG=slurm
	trap '"$CLUSTER" wipe' EXIT
	"$CLUSTER" up
	eval "$("$CLUSTER" env)"
	bash "$here/../bench.sh" "$@"
)
echo "# Sluice"
exec bash "$here/../run.sh" "$@"
