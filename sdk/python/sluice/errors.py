"""What can go wrong, as sdk/errs numbers it. Append-only: they cross the wire."""

OTHER, INVALID, NOT_FOUND, EXISTS, DENIED, STATE, BUSY, UNAVAIL, EXHAUSTED, DEADLINE, UNAUTH, INTERNAL, UNSUPPORT = range(13)

SUBMIT_REFUSED = 9002  # a code: "Job submission refused"


class Error(Exception):
    """A failure that the host understands: kind says what to do about it, code is
    Slurm's number, lines are shown to the user as they are."""

    def __init__(self, kind, text="", code=0, lines=()):
        super().__init__(text or " ".join(lines))
        self.kind, self.text, self.code, self.lines = kind, text, code, list(lines)


def refuse(*lines, code=SUBMIT_REFUSED, kind=INVALID):
    """The error with which a submission filter refuses: its lines are shown to the user."""
    return Error(kind, code=code, lines=lines)
