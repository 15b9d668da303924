package conf

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

//go:generate go test -run TestManual -update .

var update = flag.Bool("update", false, "write the generated manual")

const manual = "../contrib/docs/reference/slurm.conf.md"

// The reference manual is made from the table of keys.
func TestManual(t *testing.T) {
	want := manualText()
	if *update {
		if err := os.WriteFile(manual, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the table says; run go generate ./conf", manual)
	}
}

const manualIntro = `# slurm.conf

Generated from conf/keys.tsv by "go generate ./conf"; do not edit.

Lines are Key=Value; several may share a line. Keys have no case. "#" starts a comment, a
backslash at the end of a line joins the next, "Include path" splices in a file (%c is the
cluster's name). Values with blanks go between double quotes. The same keys can be written in
slurm.yaml or slurm.toml, with lists of tables for NodeName, PartitionName, NodeSet and DownNodes.
Memory is MiB unless K, M, G or T follows. Check a file with "slurmctld -t -f file".

**Acts**: yes, Sluice acts on it; no, it is read, checked and shown, and nothing depends on it yet;
obsolete, accepted with a warning.
`

var manualSections = []struct{ file, section, title string }{
	{"slurm.conf", "global", "Keys of the cluster"},
	{"slurm.conf", "NodeName", "NodeName lines"},
	{"slurm.conf", "PartitionName", "PartitionName lines"},
	{"slurm.conf", "NodeSet", "NodeSet lines"},
	{"slurm.conf", "DownNodes", "DownNodes lines"},
	{"slurm.conf", "SchedulerParameters", "Options of SchedulerParameters"},
	{"slurm.conf", "SlurmctldParameters", "Options of SlurmctldParameters"},
	{"slurmdbd.conf", "-", "slurmdbd.conf"},
	{"gres.conf", "-", "gres.conf"},
	{"cgroup.conf", "-", "cgroup.conf"},
	{"topology.conf", "-", "topology.conf"},
}

func manualText() string {
	var b strings.Builder
	b.WriteString(manualIntro)
	for _, s := range manualSections {
		fmt.Fprintf(&b, "\n## %s\n\n| key | value | default | acts | |\n|---|---|---|---|---|\n", s.title)
		for _, k := range Keys() {
			if k.File == s.file && k.Section == s.section {
				fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", k.Name, cell(k.allowed()), cell(k.Default), k.Acts, cell(k.Doc))
			}
		}
	}
	return b.String()
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// allowed says in words what a key may hold.
func (k Key) allowed() string {
	switch k.Kind {
	case "bool":
		return "yes, no"
	case "uint":
		s, inf := strings.CutSuffix(k.Arg, "+inf")
		lo, hi, _ := strings.Cut(s, "..")
		if s = lo + " to " + hi; hi == "max" {
			s = "from " + lo
		}
		if k.Unit != "" {
			s += " " + k.Unit
		}
		if inf {
			s += ", UNLIMITED"
		}
		return s
	case "int":
		return strings.TrimSpace("number " + k.Unit)
	case "enum", "flags":
		return strings.ReplaceAll(k.Arg, ",", ", ")
	case "list":
		if k.Arg != "" {
			return strings.ReplaceAll(k.Arg, ",", ", ")
		}
		return "list"
	case "plugin":
		return k.Arg + "/name"
	case "plugins":
		return k.Arg + "/name, ..."
	case "level":
		return strings.Join(levels, ", ")
	case "span", "minutes":
		return "time"
	case "mem":
		return "MiB"
	case "hosts":
		return "host list"
	case "ports", "portlist":
		return "port, range of ports"
	case "exitcodes":
		return "exit codes"
	case "oversub":
		return "NO, EXCLUSIVE, YES[:n], FORCE[:n]"
	case "params":
		return "options, see below"
	case "debugflags":
		return "flags"
	case "pluginoptions":
		return "kind/name:option=value,..."
	case "obsolete":
		if k.Arg != "" {
			return "see " + k.Arg
		}
		return ""
	}
	return k.Kind
}
