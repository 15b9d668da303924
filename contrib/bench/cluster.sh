#!/usr/bin/env bash
# A cluster of this tree's built binaries on loopback, without systemd, for
# benchmarks: slurmctld and PEER_NODES slurmd. The verbs and variables are those
# of the script that runs real Slurm for comparison, so one benchmark script
# measures both.
#
#   cluster.sh up            write the configuration, start everything, wait until idle
#   cluster.sh down          stop everything this script started (by process id)
#   cluster.sh env           print the exports a client shell needs (eval it)
#   cluster.sh start NAME    NAME: ctld n1 n2 ...
#   cluster.sh stop NAME     SIGTERM and wait
#   cluster.sh kill9 NAME    SIGKILL and wait
#   cluster.sh pid NAME      print the process id
#   cluster.sh wipe          down, then delete PEER_DIR
#
# PEER_DIR     state, logs, configuration   (${TMPDIR:-/tmp}/sluice-bench)
# PEER_PREFIX  installation prefix; empty = build/ of this tree
# PEER_MODE    default | best               priority/multifactor, or basic and quiet logs
# PEER_NODES   slurmd (4)                   PEER_CPUS  faked CPUs a node (64)
# PEER_FAKE    further nodes c1..cN in a partition cloud, with no slurmd behind them (0)
# PEER_PORT    first of the ports used: +17 ctld, +201... slurmd (17800)
# PEER_EXTRA   further slurm.conf lines
set -uo pipefail
D=${PEER_DIR:-${TMPDIR:-/tmp}/sluice-bench}
P=${PEER_PREFIX:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/build}
MODE=${PEER_MODE:-default} NODES=${PEER_NODES:-4} CPUS=${PEER_CPUS:-64} FAKE=${PEER_FAKE:-0}
PORT=${PEER_PORT:-17800} HOST=$(hostname -s)
PATH=$P/bin:$P/sbin:$PATH
export SLURM_CONF=$D/etc/slurm.conf

pid() { local p; p=$(cat "$D/run/$1.pid" 2>/dev/null) && [ -n "$p" ] && kill -0 "$p" 2>/dev/null && echo "$p"; }
spawn() { # spawn NAME CMD...: detached, its id in run/NAME.pid, its output in log/NAME.out
	local name=$1; shift
	if pid "$name" >/dev/null; then echo "$name: already running" >&2; return 0; fi
	( cd "$D" && exec setsid "$@" ) >>"$D/log/$name.out" 2>&1 </dev/null &
	echo $! > "$D/run/$name.pid"
}
gone() { # wait for a process to end: gone PID SECONDS
	local i; for ((i = 0; i < $2 * 20; i++)); do kill -0 "$1" 2>/dev/null || return 0; sleep 0.05; done; return 1
}
stop() {
	local p; p=$(pid "$1") || return 0
	kill "$p" 2>/dev/null; gone "$p" 20 || { kill -9 "$p"; gone "$p" 5; }
	rm -f "$D/run/$1.pid"
}
kill9() { local p; p=$(pid "$1") || return 1; kill -9 "$p"; gone "$p" 5; rm -f "$D/run/$1.pid"; }

conf() {
	local prio
	mkdir -p "$D"/{etc,run,log,spool,state}
	chmod 755 "$D" "$D"/{etc,run,log,spool,state}
	case $MODE in
	default) prio=$'PriorityType=priority/multifactor\nPriorityWeightAge=1000\nPriorityWeightFairshare=10000\nPriorityWeightJobSize=1000\nPriorityWeightPartition=1000\nPriorityWeightQOS=1000\nSlurmctldDebug=info\nSlurmdDebug=info' ;;
	tuned | best) prio=$'PriorityType=priority/basic\nMinJobAge=10\nSlurmctldDebug=error\nSlurmdDebug=error' ;;
	*) echo "PEER_MODE=$MODE?" >&2; exit 2 ;;
	esac
	{
		cat <<-EOF
		ClusterName=bench
		SlurmctldHost=$HOST(127.0.0.1)
		SlurmUser=$(id -un)
		AuthInfo=socket=$D/run/auth.sock
		SlurmctldPort=$((PORT + 17))
		SlurmdPort=$((PORT + 18))
		StateSaveLocation=$D/state
		SlurmdSpoolDir=$D/spool/%n
		SlurmctldPidFile=$D/run/slurmctld.pidfile
		SlurmdPidFile=$D/run/slurmd-%n.pidfile
		SlurmctldLogFile=$D/log/slurmctld.log
		SlurmdLogFile=$D/log/slurmd-%n.log
		PluginDir=$P/libexec/sluice
		SchedulerType=sched/backfill
		SelectType=select/cons_tres
		SelectTypeParameters=CR_Core_Memory
		DefMemPerCPU=100
		SlurmdParameters=config_overrides
		ReturnToService=2
		MaxJobCount=200000
		MaxArraySize=1000002
		AccountingStorageType=accounting_storage/sqlite
		$prio
		${PEER_EXTRA:-}
		EOF
		local i
		for ((i = 1; i <= NODES; i++)); do
			echo "NodeName=n$i NodeHostname=$HOST NodeAddr=127.0.0.1 Port=$((PORT + 200 + i)) CPUs=$CPUS RealMemory=8000 State=UNKNOWN"
		done
		if [ "$FAKE" -gt 0 ]; then
			echo "NodeName=c[1-$FAKE] NodeAddr=127.0.0.1 Port=$((PORT + 199)) CPUs=$CPUS RealMemory=8000 State=UNKNOWN"
			echo "PartitionName=cloud Nodes=c[1-$FAKE] MaxTime=INFINITE State=UP"
		fi
		echo "PartitionName=main Nodes=n[1-$NODES] Default=YES MaxTime=INFINITE State=UP"
		echo "PartitionName=small Nodes=n1 MaxTime=10 MaxNodes=1 State=UP"
	} > "$D/etc/slurm.conf"
}

start() {
	case $1 in
	ctld) spawn ctld slurmctld -D ;;
	n[0-9]*) mkdir -p "$D/spool/$1"; spawn "$1" slurmd -D -N "$1" ;;
	*) echo "start $1?" >&2; exit 2 ;;
	esac
}
idle() { [ "$(timeout 5 sinfo -h -p main -N -t idle,mixed,alloc -o %N 2>/dev/null | wc -l)" -ge "$NODES" ]; }
up() {
	local i n=600
	conf
	start ctld
	for ((i = 1; i <= NODES; i++)); do start "n$i"; done
	while ! idle; do ((n-- > 0)) || { sinfo -N -l; return 1; }; sleep 0.1; done
}
down() {
	local f
	for f in "$D"/run/n*.pid; do [ -e "$f" ] && stop "$(basename "$f" .pid)"; done
	stop ctld
}

case ${1:-} in
up) up ;;
down) down ;;
conf) conf ;;
wipe) down; rm -rf "$D" ;;
env)
	echo "export SLURM_CONF=$SLURM_CONF"
	echo "export PATH=$P/bin:$P/sbin:\$PATH" ;;
start | stop | kill9 | pid) [ $# -eq 2 ] || { echo "$0 $1 NAME" >&2; exit 2; }; "$1" "$2" ;;
*) sed -n '2,/^set/p' "$0" | sed '$d'; exit 2 ;;
esac
