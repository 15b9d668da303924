"""Options of a plugin: declared in the manifest, given in slurm.conf's PluginOptions."""

import re


class Option:
    """An option. type is int, bool, string, duration (seconds), size (MiB) or list;
    allowed is checked: "1 to 100", or words as in "first, last or none"."""

    def __init__(self, name, type="string", default="", doc="", unit="", allowed=""):
        self.name, self.type, self.default = name, type, default
        self.doc, self.unit, self.allowed = doc, unit, allowed

    def parse(self, text):
        """The value of a text; ValueError says what is wrong with it."""
        text = text.strip()
        try:
            value = getattr(self, "_" + self.type)(text)
        except (KeyError, ValueError):
            hint = f", allowed: {self.allowed}" if self.allowed else ""
            raise ValueError(f"{text!r} is no {self.type}{hint}") from None
        self._check(text, value)
        return value

    def _check(self, text, value):
        low, to, high = self.allowed.partition(" to ")
        if to and self.type in ("int", "duration", "size"):
            read = getattr(self, "_" + self.type)
            if not read(low) <= value <= read(high):
                raise ValueError(f"{text} is out of range, allowed: {self.allowed}")
        elif " or " in self.allowed and text:
            words = [w.strip() for w in self.allowed.replace(" or ", ",").split(",")]
            for word in value if self.type == "list" else [value]:
                if str(word).lower() not in [w.lower() for w in words]:
                    raise ValueError(f"{word!r} is not allowed, allowed: {self.allowed}")

    def _int(self, text):
        return int(text or 0)

    def _string(self, text):
        return text

    def _list(self, text):
        return [w.strip() for w in text.split(",") if w.strip()]

    def _bool(self, text):
        return {"yes": True, "true": True, "1": True, "on": True,
                "no": False, "false": False, "0": False, "off": False, "": False}[text.lower()]

    def _size(self, text):
        shift = {"M": 0, "G": 10, "T": 20, "P": 30}
        by = shift.get(text[-1:].upper())
        return int(text) if by is None else int(text[:-1]) << by

    def _duration(self, text):
        units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
        if re.fullmatch(r"-?\d+", text or "0"):
            unit = {"": 1, "seconds": 1, "s": 1, "ms": 0.001, "minutes": 60, "hours": 3600, "days": 86400}
            return int(text or 0) * unit[self.unit]
        if not re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h))+", text):
            raise ValueError(text)
        return sum(float(n) * units[u] for n, u in re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", text))


def parse(declared, given):
    """The values in force, by name; ValueError has a line for each that does not fit."""
    values = {o.name: o.parse(o.default) for o in declared}
    by_name = {o.name.lower(): o for o in declared}
    bad = []
    for g in given:
        where = f"{g.origin}: " if g.origin else ""
        option = by_name.get(g.name.lower())
        if option is None:
            names = ", ".join(o.name for o in declared)
            bad.append(f"{where}unknown option {g.name}, " + (f"allowed are {names}" if names else "this plugin has none"))
            continue
        try:
            values[option.name] = option.parse(g.value)
        except ValueError as e:
            bad.append(f"{where}option {option.name}: {e}")
    if bad:
        raise ValueError(": ".join(bad))
    return values
