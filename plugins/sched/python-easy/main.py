"""The plugin sched/python-easy: EASY backfill, in Python.

Jobs are tried in order of priority. The first that cannot start gets a reservation
in its partition; whoever follows starts if that does not delay it.
"""

from sluice import plugin, sched


class Easy:
    def __init__(self, depth):
        self.depth = depth

    def plan(self, view, call):
        agenda = sched.Agenda(reservations=1)
        for job in view.pending_by_priority():
            if call.ended() or self.depth and len(agenda.jobs) == self.depth:
                break
            agenda.add(job, sched.RESERVE)
        return agenda


plugin.serve(plugin.Plugin(
    doc="EASY backfill, in Python.",
    options=[plugin.Option("depth", "int", "0", "jobs to try in a pass; 0 is all", allowed="0 to 1000000")],
    sched=Easy,
))
