"""The sched kind: which jobs to try, in which order, once a pass."""

from . import errors
from .wire import sched_pb2

KIND, CONTRACTS = "sched", [1]

SKIP = 0     # a blocked job: try the next
STOP = 1     # nothing of its partition behind it may start
RESERVE = 2  # plan its earliest start; whoever follows must not delay it


class Agenda:
    """The ordered list of jobs to try. reservations is how many RESERVE entries a
    partition may hold, 0 for no bound."""

    def __init__(self, reservations=0):
        self.reservations = reservations
        self.jobs, self.when, self.extras = [], bytearray(), []

    def add(self, job, when_blocked=SKIP, expected=0, not_before=0, prefer=(), avoid=(), may_preempt=False):
        """Appends a job. expected is its predicted run time in seconds, not_before a
        time; prefer and avoid are node indexes."""
        if expected or not_before or prefer or avoid or may_preempt:
            self.extras.append(sched_pb2.Extra(position=len(self.jobs), expected=int(expected), not_before=int(not_before),
                                               prefer=prefer, avoid=avoid, may_preempt=may_preempt))
        self.jobs.append(job.id)
        self.when.append(when_blocked)

    def to_wire(self):
        return sched_pb2.Agenda(jobs=self.jobs, when_blocked=bytes(self.when), reservations=self.reservations, extras=self.extras)


class Handler:
    """Answers the kind's calls with an author's object that has plan(view, call).

    plan takes the time from view.now. When call.ended() it returns what it has. An
    exception means that the plugin is broken: the pass goes on without it."""

    serial = True

    def __init__(self, author):
        self.author = author

    def serve(self, call, view):
        if call.method != "Plan":
            raise errors.Error(errors.UNSUPPORT, f'the kind sched has no method "{call.method}"')
        request = call.decode(sched_pb2.PlanRequest)
        return self.author.plan(view(request.rev, request.now), call).to_wire()
