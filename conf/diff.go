package conf

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Change is one thing that differs between two configurations.
type Change struct {
	Key     string // "KillWait", "NodeName=n1 RealMemory", "PartitionName=main"
	Old     string // as written, or the default; empty: was not there
	New     string // empty: is not there any more
	Origin  string // of the new value, file:line or "default"; empty for a removal
	Restart string // daemons to restart before it holds: "slurmctld", "slurmd" or both; empty: none
}

// String is one line for the answer to scontrol reconfigure.
func (c Change) String() string {
	s := fmt.Sprintf("%s: %s -> %s", c.Key, orNone(c.Old), orNone(c.New))
	if c.Restart != "" {
		s += " (restart " + c.Restart + ")"
	}
	return s
}

// restarts are the keys that a daemon reads only when it starts.
var restarts = map[string]string{
	"AuthType":                "slurmctld,slurmd",
	"AuthInfo":                "slurmctld,slurmd",
	"ClusterName":             "slurmctld,slurmd",
	"CredType":                "slurmctld,slurmd",
	"SlurmctldHost":           "slurmctld",
	"SlurmctldPidFile":        "slurmctld",
	"SlurmctldPort":           "slurmctld,slurmd",
	"SlurmUser":               "slurmctld",
	"StateSaveLocation":       "slurmctld",
	"SlurmdPidFile":           "slurmd",
	"SlurmdPort":              "slurmd",
	"SlurmdSpoolDir":          "slurmd",
	"SlurmdUser":              "slurmd",
	"TLSType":                 "slurmctld,slurmd",
	"FirstJobId":              "slurmctld",
	"ProctrackType":           "slurmd",
	"CommunicationParameters": "slurmctld,slurmd",
}

// Diff lists what changes from old to new: keys by name, then nodes and
// partitions in the order of the new file, then those that are gone.
func Diff(old, new *Config) []Change {
	var out []Change
	for _, k := range Keys() {
		name := strings.ToLower(k.Name)
		a, b := old.values[name], new.values[name]
		if k.File != "slurm.conf" || k.Section != "global" || a == nil || b == nil {
			continue
		}
		was, is := a.written(), b.written()
		if was == is {
			continue
		}
		_, origin, _ := new.Raw(k.Name)
		out = append(out, Change{k.Name, was, is, origin, restarts[k.Name]})
	}
	out = append(out, diffNodes(old, new)...)
	return append(out, diffPartitions(old, new)...)
}

// written is the value as text; of a repeatable key, all of them.
func (v *value) written() string {
	if len(v.all) > 0 && v.key.repeatable() {
		return strings.Join(v.all, " ")
	}
	return v.text
}

// perNode are the fields that a running slurmd took from its own line.
var perNode = []string{"Hostname", "Port"}

func diffNodes(old, new *Config) []Change {
	was := map[wlm.NodeName]*wlm.Node{}
	for i := range old.Nodes {
		was[old.Nodes[i].Name] = &old.Nodes[i]
	}
	var out []Change
	for i := range new.Nodes {
		n := &new.Nodes[i]
		key := "NodeName=" + string(n.Name)
		o, ok := was[n.Name]
		delete(was, n.Name)
		if !ok {
			out = append(out, Change{Key: key, New: "added"})
			continue
		}
		for _, f := range fields(*o, *n) {
			if f.name == "Index" || f.name == "ActiveFeatures" {
				continue
			}
			ch := Change{Key: key + " " + f.name, Old: f.old, New: f.new}
			if slices.Contains(perNode, f.name) {
				ch.Restart = "slurmd"
			}
			out = append(out, ch)
		}
	}
	for i := range old.Nodes {
		if _, gone := was[old.Nodes[i].Name]; gone {
			out = append(out, Change{Key: "NodeName=" + string(old.Nodes[i].Name), Old: "removed"})
		}
	}
	return out
}

func diffPartitions(old, new *Config) []Change {
	was := map[string]*wlm.Partition{}
	for i := range old.Partitions {
		was[old.Partitions[i].Name] = &old.Partitions[i]
	}
	var out []Change
	for i := range new.Partitions {
		p := &new.Partitions[i]
		key := "PartitionName=" + p.Name
		o, ok := was[p.Name]
		delete(was, p.Name)
		if !ok {
			out = append(out, Change{Key: key, New: "added"})
			continue
		}
		for _, f := range fields(*o, *p) {
			if f.name != "NodeNames" {
				out = append(out, Change{Key: key + " " + f.name, Old: f.old, New: f.new})
			}
		}
	}
	for i := range old.Partitions {
		if _, gone := was[old.Partitions[i].Name]; gone {
			out = append(out, Change{Key: "PartitionName=" + old.Partitions[i].Name, Old: "removed"})
		}
	}
	return out
}

type fieldDiff struct{ name, old, new string }

// fields compares two records of one type field by field.
func fields(a, b any) []fieldDiff {
	var out []fieldDiff
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range va.NumField() {
		x, y := va.Field(i).Interface(), vb.Field(i).Interface()
		if reflect.DeepEqual(x, y) {
			continue
		}
		name := va.Type().Field(i).Name
		out = append(out, fieldDiff{name, fieldText(x), fieldText(y)})
	}
	return out
}

func fieldText(v any) string {
	switch v := v.(type) {
	case []string:
		return strings.Join(v, ",")
	case uint32:
		if v == wlm.Unset {
			return "UNLIMITED"
		}
	case wlm.Minutes:
		if v == wlm.Unlimited {
			return "UNLIMITED"
		}
	}
	return fmt.Sprint(v)
}
