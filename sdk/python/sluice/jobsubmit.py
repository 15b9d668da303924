"""The job_submit kind: inspects, changes or refuses submissions and changes of jobs."""

from . import errors
from .wire import jobsubmit_pb2

KIND, CONTRACTS = "job_submit", [1]


class Handler:
    """Answers the kind's calls with an author's object that has submit(request) and
    modify(request), each called by several threads at once.

    request.spec, and request.changes of modify, may be changed in place. To refuse,
    raise errors.refuse("line for the user", ...). The result is a list of further
    lines for the user, or None.

    Questions to the host (the cluster's partitions, in Go Request.Partitions) are not
    part of this library: a filter that needs them is written in Go."""

    serial = False

    def __init__(self, author):
        self.author = author

    def serve(self, call, view):
        do = {"Submit": self.author.submit, "Modify": self.author.modify}.get(call.method)
        if do is None:
            raise errors.Error(errors.UNSUPPORT, f'the kind job_submit has no method "{call.method}"')
        request = call.decode(jobsubmit_pb2.Request)
        before = jobsubmit_pb2.Request()
        before.CopyFrom(request)
        reply = jobsubmit_pb2.Reply()
        try:
            reply.messages.extend(do(request) or [])
        except errors.Error as e:
            reply.refused, reply.refuse, reply.refuse_kind, reply.refuse_text = True, e.code, e.kind, e.text
            reply.refuse_details.extend(e.lines)
            return reply
        if request.HasField("spec") and request.spec != before.spec:
            reply.spec.CopyFrom(request.spec)
        if dict(request.changes) != dict(before.changes):
            reply.changes_set = True
            reply.changes.update(request.changes)
        return reply
