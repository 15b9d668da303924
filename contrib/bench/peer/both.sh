#!/usr/bin/env bash
# Measures Debian's Slurm and this tree's build in turn, with one script, so that
# the figures are of one machine in one sitting.   both.sh [TEST...]   (as root)
#
# TESTs are those of bench.sh, variables those of bench.sh and cluster.sh. A name
# begins with slurm or sluice, whoever it is of. ONLY=slurm or ONLY=sluice
# measures one of them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ $# -gt 0 ] || set -- spawn sbatch submit array srun steps e2e query restart crash survive
measure() ( # measure TAG CLUSTER.SH PORT TEST...
	export TAG=$1 CLUSTER=$2 PEER_PORT=$3 PEER_DIR; shift 3
	PEER_DIR=$(mktemp -d)
	chmod 755 "$PEER_DIR"
	export STATE=$PEER_DIR/state
	trap '"$CLUSTER" wipe' EXIT
	"$CLUSTER" up
	eval "$("$CLUSTER" env)"
	bash "$here/bench.sh" "$@"
)
if [ "${ONLY:-slurm}" = slurm ]; then
	command -v slurmdbd >/dev/null && command -v mariadbd >/dev/null || bash "$here/install.sh"
	echo "# Slurm: $(/usr/sbin/slurmctld -V)"
	measure slurm "$here/cluster.sh" "${PEER_PORT:-28800}" "$@"
fi
if [ "${ONLY:-sluice}" = sluice ]; then
	echo "# Sluice"
	measure sluice "$here/../cluster.sh" "${PEER_PORT:-27800}" "$@"
fi
