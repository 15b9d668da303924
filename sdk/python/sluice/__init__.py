"""Write a plugin of Sluice in Python.

A scheduler is a class with one method:

    from sluice import plugin, sched

    class Fifo:
        def plan(self, view, call):
            agenda = sched.Agenda()
            for job in view.pending_by_submit():
                agenda.add(job, sched.STOP)
            return agenda

    plugin.serve(plugin.Plugin(doc="Strict order of submission.", sched=Fifo))

The library speaks the contract (sdk/proto/plugin/v1) over gRPC: it needs
python3-grpcio and python3-protobuf and nothing of Go. What a plugin may ask and
must keep is in contrib/docs/reference/plugins; "sluice plugin test FILE" holds
it to that.
"""
