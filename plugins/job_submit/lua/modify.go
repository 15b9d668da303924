package main

import (
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/jobsubmit"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	glua "github.com/yuin/gopher-lua"
)

// change ties a key of "scontrol update" to the field of job_desc that Slurm
// puts it in. A read that fails leaves the field unset: the request goes on as
// it is, for the controller to judge.
type change struct {
	key, field string
	read       func(s *wlm.Spec, text string, j *wlm.Job) bool
	print      func(s *wlm.Spec) string
}

func words(key, field string) change {
	f := fields[field]
	return change{key, field,
		func(s *wlm.Spec, text string, _ *wlm.Job) bool { f.write(s, glua.LString(text)); return true },
		func(s *wlm.Spec) string {
			if v := f.read(s); v != glua.LNil {
				return v.String()
			}
			return ""
		}}
}

func numbers(key, field string) change {
	f := fields[field]
	return change{key, field,
		func(s *wlm.Spec, text string, _ *wlm.Job) bool {
			n, err := strconv.ParseUint(text, 10, 32)
			f.write(s, glua.LNumber(n))
			return err == nil
		},
		func(s *wlm.Spec) string { return f.read(s).String() }}
}

func mebibytes(key, field string) change {
	f := fields[field]
	return change{key, field,
		func(s *wlm.Spec, text string, _ *wlm.Job) bool {
			n, err := wlm.ParseMiB(text)
			f.write(s, glua.LNumber(n))
			return err == nil
		},
		func(s *wlm.Spec) string { return f.read(s).String() }}
}

var changes = []change{
	{"TimeLimit", "time_limit", readLimit, func(s *wlm.Spec) string { return wlm.FormatMinutes(s.TimeLimit) }},
	{"NumNodes", "min_nodes", readNodes, printNodes},
	{"Nice", "nice", func(s *wlm.Spec, text string, _ *wlm.Job) bool {
		n, err := strconv.ParseInt(text, 10, 32)
		s.Nice = int32(n)
		return err == nil
	}, func(s *wlm.Spec) string { return strconv.Itoa(int(s.Nice)) }},
	numbers("Priority", "priority"), numbers("Requeue", "requeue"),
	numbers("NumTasks", "num_tasks"), numbers("NumCPUs", "min_cpus"), numbers("CPUsPerTask", "cpus_per_task"),
	mebibytes("MinMemoryNode", "min_mem_per_node"), mebibytes("MinMemoryCPU", "min_mem_per_cpu"),
	words("JobName", "name"), words("Name", "name"), words("Comment", "comment"), words("AdminComment", "admin_comment"),
	words("Account", "account"), words("QOS", "qos"), words("Partition", "partition"), words("Features", "features"),
	words("ReqNodeList", "req_nodes"), words("ExcNodeList", "exc_nodes"), words("Dependency", "dependency"),
	words("MailUser", "mail_user"), words("StdOut", "std_out"), words("StdErr", "std_err"), words("StdIn", "std_in"),
	words("WorkDir", "work_dir"), words("WCKey", "wckey"), words("Licenses", "licenses"), words("Extra", "extra"),
}

// readLimit resolves +N and -N against the job's limit, as job_desc has it.
func readLimit(s *wlm.Spec, text string, j *wlm.Job) bool {
	sign := int64(0)
	switch {
	case text == "-1":
	case strings.HasPrefix(text, "+"):
		sign, text = 1, text[1:]
	case strings.HasPrefix(text, "-"):
		sign, text = -1, text[1:]
	}
	m, err := wlm.ParseMinutes(text)
	if err == nil && sign != 0 && j != nil {
		if j.TimeLimit == wlm.Unlimited || m == wlm.Unlimited {
			return false
		}
		m = wlm.Minutes(max(int64(j.TimeLimit)+sign*int64(m), 1))
	}
	s.TimeLimit = m
	return err == nil
}

func readNodes(s *wlm.Spec, text string, _ *wlm.Job) bool {
	lo, hi, ranged := strings.Cut(text, "-")
	a, err := strconv.ParseUint(lo, 10, 32)
	b, err2 := a, error(nil)
	if ranged {
		b, err2 = strconv.ParseUint(hi, 10, 32)
	}
	s.MinNodes, s.MaxNodes = uint32(a), uint32(b)
	return err == nil && err2 == nil
}

func printNodes(s *wlm.Spec) string {
	if s.MaxNodes > s.MinNodes {
		return strconv.Itoa(int(s.MinNodes)) + "-" + strconv.Itoa(int(s.MaxNodes))
	}
	return strconv.Itoa(int(s.MinNodes))
}

// changed is the job_desc of a modification: only what the request changes is
// set in it.
func changed(r *jobsubmit.Request) *desc {
	d := &desc{spec: &wlm.Spec{Priority: wlm.Unset, CoreSpec: wlm.Unset}, request: r, only: map[string]bool{}}
	for key, text := range r.Changes {
		for _, c := range changes {
			if strings.EqualFold(c.key, key) {
				d.only[c.field] = c.read(d.spec, text, r.Current)
			}
		}
	}
	if d.only["min_nodes"] {
		d.only["max_nodes"] = true
	}
	return d
}

// writeBack puts what the script assigned into the request.
func (d *desc) writeBack(r *jobsubmit.Request) {
	for _, name := range d.set {
		if name == "max_nodes" {
			name = "min_nodes"
		}
		i := slices.IndexFunc(changes, func(c change) bool { return c.field == name })
		if i < 0 {
			warnUnchangeable(name)
			continue
		}
		key := changes[i].key
		for have := range r.Changes { // keep the request's own spelling
			if j := slices.IndexFunc(changes, func(c change) bool { return strings.EqualFold(c.key, have) }); j >= 0 && changes[j].field == name {
				key = have
			}
		}
		if r.Changes == nil {
			r.Changes = map[string]string{}
		}
		r.Changes[key] = changes[i].print(d.spec)
	}
}
