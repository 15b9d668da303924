"""The plugin's copy of the cluster, kept by a snapshot and changes (sdk/proto/mirror/v1).

A View is the cluster at one rev. Its nodes, partitions, classes, jobs and counters
are the messages of that file, units included: memory is MiB, times are Unix
seconds, durations are seconds. They must not be changed.
"""

from .wire import mirror_pb2

_MASK = (1 << 64) - 1


class Lost(Exception):
    """The mirror missed a frame and is of no use before the next snapshot."""


def _mix(job, rev):
    """Scatters (id, rev) over 64 bits, so that sums of it tell sets apart."""
    x = (job * 0x9E3779B97F4A7C15 + rev) & _MASK
    x ^= x >> 30
    x = x * 0xBF58476D1CE4E5B9 & _MASK
    x ^= x >> 27
    x = x * 0x94D049BB133111EB & _MASK
    return x ^ x >> 31


class _State:
    def __init__(self):
        self.rev = self.digest = 0
        self.nodes, self.partitions, self.counters = [], [], {}
        self.classes, self.jobs, self.settings = {0: mirror_pb2.Class()}, {}, {}

    def take(self, f):
        for n in f.nodes:
            if n.index < len(self.nodes):
                self.nodes[n.index] = n
            elif n.index == len(self.nodes):
                self.nodes.append(n)
            else:
                raise Lost(f"node {n.index} came when {len(self.nodes)} were known")
        if f.partitions and f.partitions[0].index == 0:
            self.partitions = []
        for p in f.partitions:
            if p.index != len(self.partitions):
                raise Lost(f"partition {p.index} came when {len(self.partitions)} were known")
            self.partitions.append(p)
        for c in f.counters:
            self.counters[c.id] = c
        for key, value in f.settings.items():
            if value:
                self.settings[key] = value
            else:
                self.settings.pop(key, None)
        for c in f.classes:
            self.classes[c.id] = c
        self._take_jobs(f)

    def _take_jobs(self, f):
        for j in f.jobs:
            if getattr(j, "class") not in self.classes:
                raise Lost(f"job {j.id} is of a class that is not known")
            self._drop(j.id)
            self.jobs[j.id] = j
            self.digest = self.digest + _mix(j.id, j.rev) & _MASK
        for job in f.gone_jobs:
            self._drop(job)
        if len(f.rank_ids) != len(f.rank_priorities):
            raise Lost("ranks and jobs differ in number")
        for job, priority in zip(f.rank_ids, f.rank_priorities):
            j = self.jobs.get(job)
            if j is not None:
                self.digest = self.digest + _mix(job, f.rev) - _mix(job, j.rev) & _MASK
                j.rev, j.priority, j.ranked = f.rev, priority, True
        for c in f.gone_classes:
            self.classes.pop(c, None)

    def _drop(self, job):
        old = self.jobs.pop(job, None)
        if old is not None:
            self.digest = self.digest - _mix(job, old.rev) & _MASK


class Mirror:
    """Applies frames in one thread; views are made between two frames."""

    def __init__(self):
        self.state = _State()
        self.lost = False
        self._aside = None  # the snapshot that arrives
        self._next = 0      # its next piece
        self._pieces = []   # of the change that arrives

    def apply(self, payload):
        """Takes the next frame; True when the mirror is at a new rev. Lost means that
        a snapshot is needed; it is raised once."""
        try:
            f = mirror_pb2.Frame.FromString(payload)
            return self._apply(f)
        except Exception as e:
            self.lost, self._aside, self._pieces = True, None, []
            raise e if isinstance(e, Lost) else Lost(str(e)) from None

    def _apply(self, f):
        if f.reset:
            self._pieces, self._aside, self._next = [], _State(), 0
            return self._snapshot(f)
        if self._aside is not None and not self._pieces and not f.HasField("base"):
            return self._snapshot(f)
        return not self.lost and self._change(f)

    def _snapshot(self, f):
        if f.piece != self._next:
            raise Lost(f"piece {f.piece} of a snapshot came where {self._next} was due")
        self._next += 1
        self._aside.take(f)
        if not f.done:
            return False
        self._finish(self._aside, f)
        self.state, self._aside, self.lost = self._aside, None, False
        return True

    def _change(self, f):
        if not self._pieces and f.HasField("base") and f.base != self.state.rev:
            raise Lost(f"a change on rev {f.base} came at rev {self.state.rev}")
        if f.piece != len(self._pieces) or self._pieces and f.rev != self._pieces[0].rev:
            raise Lost(f"piece {f.piece} of rev {f.rev} came out of order")
        self._pieces.append(f)
        if not f.done:
            return False
        pieces, self._pieces = self._pieces, []
        for p in pieces:
            self.state.take(p)
        self._finish(self.state, f)
        return True

    @staticmethod
    def _finish(state, f):
        state.rev = f.rev
        if f.digest and f.digest != state.digest:
            raise Lost(f"digest at rev {f.rev} is {state.digest:#x}, told {f.digest:#x}")


class View:
    """The cluster at one rev, seen at the time now."""

    def __init__(self, state, now):
        self._state = state
        self.rev, self.now = state.rev, now
        self.nodes, self.partitions = state.nodes, state.partitions
        self.counters = list(state.counters.values())

    def job(self, id):
        """The job, or None."""
        return self._state.jobs.get(id)

    def class_of(self, job):
        """What a job asks for; jobs that ask for the same share one."""
        return self._state.classes[getattr(job, "class")]

    def running(self):
        """The running jobs, in no order."""
        return [j for j in self._state.jobs.values() if j.running]

    def pending(self):
        """Every pending job, ready or not, in no order."""
        return [j for j in self._state.jobs.values() if not j.running]

    def ready(self):
        """The pending jobs that nothing but resources and policy holds, in no order."""
        return [j for j in self._state.jobs.values() if j.ready and not j.running]

    def pending_by_submit(self):
        """The ready jobs, oldest first."""
        return sorted(self.ready(), key=lambda j: (j.submit, j.id))

    def pending_by_priority(self):
        """The ready jobs in Slurm's main order: tier of the partition, priority,
        submission, id."""
        return sorted(self.ready(), key=lambda j: (-self._tier(j), -j.priority, j.submit, j.id))

    def _tier(self, job):
        return max((self.partitions[p].tier for p in self.class_of(job).partitions if p < len(self.partitions)), default=0)

    def setting(self, key):
        """A value of slurm.conf such as "SchedulerParameters"; empty when it is not set."""
        return self._state.settings.get(key, "")
