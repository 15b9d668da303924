"""The priority kind: the priorities of pending jobs, in bulk."""

from . import errors
from .wire import priority_pb2

KIND, CONTRACTS = "priority", [1]


class Handler:
    """Answers the kind's calls with an author's object that has rank(view, jobs, call):
    jobs are those to rank, the result is a priority of at least 1 for each."""

    serial = True

    def __init__(self, author):
        self.author = author

    def serve(self, call, view):
        if call.method != "Rank":
            raise errors.Error(errors.UNSUPPORT, f'the kind priority has no method "{call.method}"')
        request = call.decode(priority_pb2.RankRequest)
        v = view(request.rev, request.now)
        if request.all:
            jobs = sorted(v.pending(), key=lambda j: j.id)
        else:
            jobs = [j for j in map(v.job, request.jobs) if j is not None and not j.running]
        ranks = [min(max(1, int(p)), 0xFFFFFFFF) for p in self.author.rank(v, jobs, call)]
        return priority_pb2.RankReply(jobs=[j.id for j in jobs], priorities=ranks)
