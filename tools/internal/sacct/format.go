package sacct

import (
	"bufio"
	"fmt"
	"strconv"
	"strings"
)

// The default formats.
const (
	formatStandard   = "jobid,jobname,partition,account,alloccpus,state,exitcode"
	formatBrief      = "jobid,state,exitcode"
	formatCompletion = "jobid,uid,jobname,partition,nnodes,nodelist,state,end"
	formatLong       = "jobid,jobidraw,jobname,partition,maxvmsize,maxvmsizenode,maxvmsizetask,avevmsize,maxrss,maxrssnode," +
		"maxrsstask,averss,maxpages,maxpagesnode,maxpagestask,avepages,mincpu,mincpunode,mincputask,avecpu,ntasks,alloccpus," +
		"elapsed,state,exitcode,avecpufreq,reqcpufreqmin,reqcpufreqmax,reqcpufreqgov,reqmem,consumedenergy,maxdiskread," +
		"maxdiskreadnode,maxdiskreadtask,avediskread,maxdiskwrite,maxdiskwritenode,maxdiskwritetask,avediskwrite,reqtres," +
		"alloctres,tresusageinave,tresusageinmax,tresusageinmaxnode,tresusageinmaxtask,tresusageinmin,tresusageinminnode," +
		"tresusageinmintask,tresusageintot,tresusageoutmax,tresusageoutmaxnode,tresusageoutmaxtask,tresusageoutave,tresusageouttot"
)

// column is a field with the width asked for.
type column struct {
	*field
	width int // negative: to the left
}

// parseFormat reads name[%[-]width],... Names may be cut short.
func parseFormat(spec string) ([]column, error) {
	var out []column
	for item := range strings.SplitSeq(spec, ",") {
		name, size, sized := strings.Cut(strings.TrimSpace(item), "%")
		if name == "" {
			continue
		}
		if strings.EqualFold(name, "ALL") {
			for i := range fields {
				out = append(out, column{&fields[i], fields[i].width})
			}
			continue
		}
		f := find(name)
		if f == nil {
			return nil, failf("Invalid field requested: \"%s\"", name)
		}
		c := column{f, f.width}
		if sized {
			n, err := strconv.Atoi(size)
			if err != nil || n == 0 || n > 1<<16 || n < -1<<16 {
				return nil, failf("Invalid width of field %s: %%%s", name, size)
			}
			// A width keeps the field's side; only a sign changes it.
			if n > 0 && f.width < 0 {
				n = -n
			}
			c.width = n
		}
		out = append(out, c)
	}
	return out, nil
}

func find(name string) *field {
	for i := range fields {
		if strings.EqualFold(fields[i].name, name) {
			return &fields[i]
		}
	}
	for i := range fields {
		if len(name) < len(fields[i].name) && strings.EqualFold(fields[i].name[:len(name)], name) {
			return &fields[i]
		}
	}
	return nil
}

// table prints columns.
type table struct {
	columns   []column
	delimiter string // empty: columns of fixed width
	trailing  bool   // a delimiter at the end of the line too
}

func (t *table) header(w *bufio.Writer) {
	if t.delimiter != "" {
		t.row(w, func(c column) string { return c.name })
		return
	}
	for _, c := range t.columns {
		name := c.name
		if n := abs(c.width); len(name) > n {
			name = name[:n]
		}
		pad(w, name, c.width)
	}
	w.WriteByte('\n') //nolint:errcheck // Flush tells
	for _, c := range t.columns {
		w.WriteString(strings.Repeat("-", abs(c.width)) + " ") //nolint:errcheck // Flush tells
	}
	w.WriteByte('\n') //nolint:errcheck // Flush tells
}

func (t *table) line(w *bufio.Writer, l *line) {
	t.row(w, func(c column) string { return c.value(l) })
}

func (t *table) row(w *bufio.Writer, value func(column) string) {
	for i, c := range t.columns {
		switch {
		case t.delimiter == "":
			pad(w, value(c), c.width)
			continue
		case i > 0:
			w.WriteString(t.delimiter) //nolint:errcheck // Flush tells
		}
		w.WriteString(value(c)) //nolint:errcheck // Flush tells
	}
	if t.trailing {
		w.WriteString(t.delimiter) //nolint:errcheck // Flush tells
	}
	w.WriteByte('\n') //nolint:errcheck // Flush tells
}

func abs(n int) int { return max(n, -n) }

// pad writes v and a blank; what is too long ends in "+".
func pad(w *bufio.Writer, v string, width int) {
	n := abs(width)
	if runes := []rune(v); len(runes) > n {
		v = string(runes[:n-1]) + "+"
	}
	if width < 0 {
		fmt.Fprintf(w, "%-*s ", n, v)
	} else {
		fmt.Fprintf(w, "%*s ", n, v)
	}
}

// helpFormat lists the fields, four to a line.
func helpFormat() string {
	const perLine, width = 4, 19
	var b strings.Builder
	for i, f := range fields {
		fmt.Fprintf(&b, "%-*s", width, f.name)
		if i%perLine == perLine-1 || i == len(fields)-1 {
			b.WriteByte('\n')
		} else {
			b.WriteByte(' ')
		}
	}
	return b.String()
}
