package request

import (
	"fmt"
	"math"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// setter applies an option's value; has tells "--opt=" from "--opt".
type setter func(r *Request, value string, has bool) error

// invalid is the mistake of a value of the wrong form.
func invalid(long, value, allowed string) *Mistake {
	m := mistakef(exitSyntax, "Invalid --%s specification", long)
	if allowed != "" {
		m.Hint = fmt.Sprintf("--%s=%s: allowed is %s", long, value, allowed)
	}
	return m
}

// number reads a decimal number of at least least, as Slurm's options do.
func number(name, value string, least int64) (uint32, error) {
	n, err := strconv.ParseInt(value, 10, 64)
	switch {
	case err != nil && isDigits(value), err == nil && n > math.MaxInt32:
		return 0, mistakef(exitMistake, "Numeric argument (%s) to big for %s.", value, name)
	case err != nil || n < least:
		return 0, mistakef(exitMistake, "Invalid numeric value %q for %s.", value, name)
	}
	return uint32(n), nil
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

func text(at func(*Request) *string) setter {
	return func(r *Request, v string, _ bool) error { *at(r) = v; return nil }
}

func positive(long string, at func(*Request) *uint32) setter { return count(long, 1, at) }

func count(long string, least int64, at func(*Request) *uint32) setter {
	return func(r *Request, v string, _ bool) (err error) {
		n, err := number("--"+long, v, least)
		if err == nil {
			*at(r) = n
		}
		return err
	}
}

func flag(at func(*Request) *bool) setter {
	return func(r *Request, _ string, _ bool) error { *at(r) = true; return nil }
}

// kept stores the value for those who come later.
func kept(long string) setter {
	return func(r *Request, v string, _ bool) error { r.keep(long, v); return nil }
}

// nothing accepts an option that has no meaning here.
func nothing(*Request, string, bool) error { return nil }

func mib(long string, at func(*Request) *wlm.MiB) setter {
	return func(r *Request, v string, _ bool) error {
		m, err := wlm.ParseMiB(v)
		if err != nil {
			return invalid(long, v, "a number with K, M, G or T behind it, without a fraction")
		}
		*at(r) = m
		return nil
	}
}

func minutes(long string, at func(*Request) *wlm.Minutes) setter {
	return func(r *Request, v string, _ bool) error {
		m, err := wlm.ParseMinutes(v)
		if err != nil {
			return invalid(long, v, "minutes, minutes:seconds, hours:minutes:seconds, days-hours, "+
				"days-hours:minutes, days-hours:minutes:seconds or UNLIMITED")
		}
		*at(r) = m
		return nil
	}
}

func moment(long string, at func(*Request) *wlm.Time) setter {
	return func(r *Request, v string, _ bool) error {
		t, err := wlm.ParseWhen(v, r.now, true)
		if err != nil {
			m := invalid(long, v, "HH:MM[:SS], YYYY-MM-DD[THH:MM[:SS]], today, tomorrow, noon, now+count[minutes|hours|days|weeks]")
			if v != "" {
				m.Plain = err.Error()
			}
			return m
		}
		*at(r) = t
		return nil
	}
}

func setMem(r *Request, v string, _ bool) error {
	if err := mib("mem", func(r *Request) *wlm.MiB { return &r.Spec.MemPerNode })(r, v, true); err != nil {
		return err
	}
	r.Spec.MemAll = r.Spec.MemPerNode == 0
	return nil
}

func setArray(r *Request, v string, _ bool) error {
	if v == "" {
		r.Spec.Array = ""
		return nil
	}
	tasks, limit, err := wlm.ParseArray(v, wlm.MaxArrayBound)
	if err != nil {
		return err // an error with a code: the submission fails with it
	}
	r.Spec.Array, r.Spec.ArrayMaxRunning = wlm.FormatArray(tasks, 0), limit
	return nil
}

func setDependency(r *Request, v string, _ bool) error {
	if _, err := wlm.ParseDependency(v); err != nil {
		return err
	}
	r.Spec.Dependency = v
	return nil
}

func setNodes(r *Request, v string, _ bool) error {
	c, err := wlm.ParseNodes(v)
	if err != nil {
		return &Mistake{Exit: exitSyntax, Lines: []string{err.Error()}}
	}
	r.Spec.MinNodes, r.Spec.MaxNodes, r.Spec.NodeSizes = c.Min, c.Max, ""
	if c.Sizes != nil {
		r.Spec.NodeSizes = v
	}
	return nil
}

func setSignal(r *Request, v string, _ bool) error {
	s, err := wlm.ParseJobSignal(v)
	if err != nil {
		return invalid("signal", v, "[{R|B}:]signal[@seconds]")
	}
	r.Spec.Signal, r.Spec.SignalSeconds = uint32(s.Signal), s.Seconds
	r.Spec.SignalBatch, r.Spec.SignalReservation = s.Batch, s.Reservation
	return nil
}

// words sets a field by one of a few words; exit is that of a wrong one.
func words[T any](long string, at func(*Request) *T, choice map[string]T) setter {
	return func(r *Request, v string, _ bool) error {
		if t, ok := choice[strings.ToLower(v)]; ok {
			*at(r) = t
			return nil
		}
		var names []string
		for n := range choice {
			if n != "" {
				names = append(names, n)
			}
		}
		slices.Sort(names)
		return invalid(long, v, strings.Join(names, ", "))
	}
}

var openModes = map[string]wlm.OpenMode{"append": wlm.OpenAppend, "a": wlm.OpenAppend,
	"truncate": wlm.OpenTruncate, "t": wlm.OpenTruncate}

func setExclusive(r *Request, v string, has bool) error {
	if r.Command == Srun {
		r.Step.Exact = true
	}
	if r.source == FromEnv && (v == "1" || v == "") {
		has = false
	}
	if !has {
		r.Spec.Share = wlm.ShareNever
		return nil
	}
	return words("exclusive", func(r *Request) *wlm.Exclusivity { return &r.Spec.Share },
		map[string]wlm.Exclusivity{"user": wlm.ShareUser, "mcs": wlm.ShareMCS, "topo": wlm.ShareTopo})(r, v, true)
}

func setNice(r *Request, v string, has bool) error {
	const usual = 100
	r.Spec.Nice = usual
	if has {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return mistakef(exitMistake, "Invalid numeric value %q for --nice.", v)
		}
		const most = math.MaxInt32 - 1
		if n > most || n < -most {
			return &Mistake{Exit: exitSyntax, Lines: []string{fmt.Sprintf("Invalid --nice value, must be between -%d and %d", most, most)}}
		}
		r.Spec.Nice = int32(n)
	}
	return nil
}

func setPriority(r *Request, v string, _ bool) error {
	if strings.EqualFold(v, "TOP") {
		r.Spec.Priority = wlm.Unset - 1
		return nil
	}
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil || n >= uint64(wlm.Unset) {
		return mistakef(exitMistake, "Invalid numeric value %q for --priority.", v)
	}
	r.Spec.Priority = uint32(n)
	r.Spec.Hold = r.Spec.Hold || n == 0
	return nil
}

func setSwitches(r *Request, v string, _ bool) error {
	num, wait, timed := strings.Cut(v, "@")
	n, err := number("--switches", num, 1)
	if err != nil {
		return err
	}
	r.Spec.Switches = n
	if timed {
		return setSwitchWait(r, wait, true)
	}
	return nil
}

func setSwitchWait(r *Request, v string, _ bool) error {
	s, err := wlm.ParseSeconds(v)
	if err != nil {
		return invalid("switches", v, "count[@time]")
	}
	r.Spec.SwitchWait = s
	return nil
}

func setDelayBoot(r *Request, v string, _ bool) error {
	s, err := wlm.ParseSeconds(v)
	if err != nil {
		return invalid("delay-boot", v, "a time such as minutes or hours:minutes:seconds")
	}
	r.Spec.DelayBoot = s
	return nil
}

func setNodeInfo(r *Request, v string, _ bool) error {
	to := []*uint32{&r.Spec.SocketsPerNode, &r.Spec.CoresPerSocket, &r.Spec.ThreadsPerCore}
	parts := strings.Split(v, ":")
	if len(parts) > len(to) {
		return invalid("extra-node-info", v, "sockets[:cores[:threads]]")
	}
	for i, p := range parts {
		if p == "*" {
			continue
		}
		low, _, _ := strings.Cut(p, "-")
		n, err := number([]string{"first", "second", "third"}[i]+" arg of -B", low, 1)
		if err != nil {
			return err
		}
		*to[i] = n
	}
	return nil
}

func setDistribution(r *Request, v string, _ bool) error {
	levels, pack, packed := strings.Cut(strings.ToLower(v), ",")
	bad := invalid("distribution", v, "{*|block|cyclic|arbitrary|plane=size}[:{*|block|cyclic|fcyclic}[:{*|block|cyclic|fcyclic}]][,{Pack|NoPack}]")
	for i, l := range strings.Split(levels, ":") {
		size, plane := strings.CutPrefix(l, "plane=")
		n, err := strconv.ParseUint(size, 10, 31)
		switch {
		case i == 0 && plane && err == nil && n > 0:
		case i == 0 && l == "plane" && r.source == FromEnv:
			size, _ := r.env("SLURM_DIST_PLANESIZE")
			levels = "plane=" + size
		case i == 0 && slices.Contains([]string{"*", "block", "cyclic", "arbitrary"}, l):
		case i > 0 && i < 3 && slices.Contains([]string{"*", "block", "cyclic", "fcyclic"}, l):
		default:
			return bad
		}
	}
	if packed && pack != "pack" && pack != "nopack" {
		return bad
	}
	r.Spec.Distribution = levels
	if packed {
		r.Spec.Distribution += "," + pack
	}
	return nil
}

func setHint(r *Request, v string, _ bool) error {
	switch v {
	case "compute_bound", "memory_bound", "multithread", "nomultithread":
		r.Spec.Hint = v
		return nil
	}
	return mistakef(exitMistake, "unrecognized --hint argument %q, see --hint=help", v)
}

var mailTypes = []string{"NONE", "BEGIN", "END", "FAIL", "REQUEUE", "ALL", "INVALID_DEPEND", "STAGE_OUT",
	"TIME_LIMIT", "TIME_LIMIT_90", "TIME_LIMIT_80", "TIME_LIMIT_50", "ARRAY_TASKS"}

func setMailType(r *Request, v string, _ bool) error {
	for w := range strings.SplitSeq(v, ",") {
		if !slices.Contains(mailTypes, strings.ToUpper(w)) {
			return invalid("mail-type", v, strings.Join(mailTypes, ", "))
		}
	}
	r.Spec.MailType = strings.ToUpper(v)
	return nil
}

func setNoKill(r *Request, v string, has bool) error {
	if r.source == FromEnv && !strings.EqualFold(v, "off") {
		has = false
	}
	switch {
	case !has:
		r.Spec.NoKill = true
	case strings.EqualFold(v, "off"):
		r.Spec.NoKill = false
	default:
		return invalid("no-kill", v, "off, or no value")
	}
	return nil
}

func setRequeue(r *Request, v string, has bool) error {
	if has && v != "" && r.source != FromEnv {
		if !strings.EqualFold(v, "expedite") {
			return invalid("requeue", v, "expedite, or no value")
		}
		r.keep("requeue", "expedite")
	}
	r.Spec.Requeue = wlm.Yes
	return nil
}

func setOOMKill(r *Request, v string, has bool) error {
	switch {
	case !has || v == "1":
		r.Spec.OOMKill = wlm.Yes
	case v == "0":
		r.Spec.OOMKill = wlm.No
	default:
		return invalid("oom-kill-step", v, "0 or 1")
	}
	return nil
}

// gres turns "tesla:2,kepler:1" into "gres/gpu:tesla:2,gres/gpu:kepler:1".
func gres(prefix, v string) string {
	var out []string
	for e := range strings.SplitSeq(v, ",") {
		switch {
		case e == "" || strings.EqualFold(e, "none"):
		case strings.HasPrefix(e, "gres/"), strings.HasPrefix(e, "gres:"):
			out = append(out, "gres/"+e[len("gres/"):])
		default:
			out = append(out, prefix+e)
		}
	}
	return strings.Join(out, ",")
}

// tres adds to a TRES list. --gres replaces the list; an option for GPUs
// replaces what the list said of them.
func tres(prefix string, at func(*Request) *string) setter {
	return func(r *Request, v string, _ bool) error {
		list := slices.DeleteFunc(strings.Split(*at(r), ","), func(e string) bool {
			return e == "" || prefix == "gres/" || strings.HasPrefix(e, "gres/gpu:")
		})
		if prefix == "gres/" {
			r.Step.NoGres = strings.EqualFold(v, "none")
		}
		if add := gres(prefix, v); add != "" {
			list = append(list, add)
		}
		*at(r) = strings.Join(list, ",")
		return nil
	}
}

func setTresPerTask(r *Request, v string, _ bool) error {
	var rest []string
	for e := range strings.SplitSeq(v, ",") {
		if n, ok := strings.CutPrefix(strings.Replace(e, ":", "=", 1), "cpu="); ok {
			cpus, err := number("--tres-per-task=cpu", n, 1)
			if err != nil {
				return err
			}
			if r.given["cpus-per-task"] <= r.source {
				r.Spec.CPUsPerTask = cpus
				r.given["cpus-per-task"] = r.source
			}
			continue
		}
		rest = append(rest, e)
	}
	r.Spec.TresPerTask = strings.Join(rest, ",")
	return nil
}

// nodeList reads a host list, or the file that holds one.
func nodeList(long string, at func(*Request) *string) setter {
	return func(r *Request, v string, _ bool) error {
		if strings.Contains(v, "/") {
			list, err := readNodes(v)
			if err != nil {
				return &Mistake{Exit: exitSyntax, Lines: []string{
					"slurm_allocate_resources error opening file " + v + ", " + errText(err), "Invalid --" + long + " node file"}}
			}
			v = list
		}
		*at(r) = v
		return nil
	}
}

func setNodeFile(r *Request, v string, _ bool) error {
	if !strings.Contains(v, "/") {
		v = "./" + v
	}
	return nodeList("nodefile", func(r *Request) *string { return &r.Spec.ReqNodes })(r, v, true)
}

func readNodes(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	var names []string
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "#")
		names = append(names, strings.FieldsFunc(line, func(c rune) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' })...)
	}
	return strings.Join(names, ","), nil
}

// errText is the C library's text of a file error.
func errText(err error) string {
	if os.IsNotExist(err) {
		return "No such file or directory"
	}
	if os.IsPermission(err) {
		return "Permission denied"
	}
	return err.Error()
}

func setUID(r *Request, v string, _ bool) error {
	if os.Geteuid() != 0 {
		return &Mistake{Exit: exitSyntax, Lines: []string{"--uid only permitted by root user"}}
	}
	u, err := user.Lookup(v)
	if err != nil {
		if u, err = user.LookupId(v); err != nil {
			return invalid("uid", v, "a user's name or number")
		}
	}
	n, _ := strconv.ParseUint(u.Uid, 10, 32)
	g, _ := strconv.ParseUint(u.Gid, 10, 32)
	r.Spec.User, r.Spec.UserName = wlm.UID(n), u.Username
	if r.given["gid"] == Nowhere {
		r.Spec.Group = wlm.GID(g)
	}
	return nil
}

func setGID(r *Request, v string, _ bool) error {
	if os.Geteuid() != 0 {
		return &Mistake{Exit: exitSyntax, Lines: []string{"--gid only permitted by root user"}}
	}
	g, err := user.LookupGroup(v)
	if err != nil {
		if g, err = user.LookupGroupId(v); err != nil {
			return invalid("gid", v, "a group's name or number")
		}
	}
	n, _ := strconv.ParseUint(g.Gid, 10, 32)
	r.Spec.Group, r.Spec.GroupName = wlm.GID(n), g.Name
	return nil
}

func setVerbose(r *Request, v string, has bool) error {
	if r.source != FromEnv {
		r.Verbose++
		return nil
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		n = 1
	}
	r.Verbose = max(n, 0)
	return nil
}

func setImmediate(r *Request, v string, has bool) error {
	r.Spec.Immediate = true
	if has && v != "" {
		n, err := number("immediate", v, 0)
		if err != nil {
			return err
		}
		r.ImmediateSeconds = n
	}
	return nil
}

func setKillOnBadExit(r *Request, v string, has bool) error {
	r.Step.KillOnBadExit = wlm.Yes
	if has && v != "" {
		n, err := number("--kill-on-bad-exit", v, 0)
		if err != nil {
			return err
		}
		if n == 0 {
			r.Step.KillOnBadExit = wlm.No
		}
	}
	return nil
}

func setKillCommand(r *Request, v string, has bool) error {
	const term = 15
	r.Alloc.KillCommand, r.Alloc.KillGiven = term, true
	if has && v != "" {
		n, err := wlm.ParseSignal(v)
		if err != nil {
			return invalid("kill-command", v, "a signal's name or number")
		}
		r.Alloc.KillCommand = n
	}
	return nil
}

var bindWords = map[string][]string{
	"cpu-bind": {"none", "no", "rank", "map_cpu", "mask_cpu", "rank_ldom", "map_ldom", "mask_ldom", "sockets", "cores",
		"threads", "ldoms", "boards", "quiet", "verbose", "q", "v"},
	"mem-bind": {"none", "no", "rank", "local", "map_mem", "mask_mem", "prefer", "nosort", "sort", "quiet", "verbose", "q", "v"},
}

// bindHelp answers --cpu-bind=help and --mem-bind=help.
func bindHelp(long string) string {
	return "--" + long + "=[{quiet|verbose},]type\n    type is one of " + strings.Join(bindWords[long], ", ") +
		"\n    map_ and mask_ take a list behind a colon, as in map_cpu:0,2 and mask_cpu:0x3,0xc"
}

// bind checks the words of --cpu-bind and --mem-bind; after map_ and mask_
// words come their lists.
func bind(long string, at func(*Request) *string) setter {
	return func(r *Request, v string, _ bool) error {
		if strings.EqualFold(v, "help") {
			return &Mistake{Plain: bindHelp(long)}
		}
		listed := false
		for w := range strings.SplitSeq(strings.ToLower(v), ",") {
			name, _, list := strings.Cut(w, ":")
			if !list {
				name, _, list = strings.Cut(w, "=")
			}
			known := slices.Contains(bindWords[long], name)
			if !known && !listed {
				m := mistakef(exitSyntax, "unrecognized --%s argument %q", long, w)
				m.Hint = "allowed is " + strings.Join(bindWords[long], ", ")
				return m
			}
			listed = list
		}
		*at(r) = v
		return nil
	}
}

var limitNames = []string{"AS", "CORE", "CPU", "DATA", "FSIZE", "MEMLOCK", "NOFILE", "NPROC", "RSS", "STACK"}

func setPropagate(r *Request, v string, has bool) error {
	if !has || v == "" {
		r.Propagate = "ALL"
		return nil
	}
	for w := range strings.SplitSeq(v, ",") {
		name := strings.TrimPrefix(strings.ToUpper(w), "RLIMIT_")
		if name != "ALL" && name != "NONE" && !slices.Contains(limitNames, name) {
			return &Mistake{Exit: exitMistake, Lines: []string{"Bad rlimit name: " + w, "--propagate=" + v + " is not valid."},
				Hint: "allowed is ALL, NONE, " + strings.Join(limitNames, ", ")}
		}
	}
	r.Propagate = strings.ToUpper(v)
	return nil
}

func setProfile(r *Request, v string, _ bool) error {
	for w := range strings.SplitSeq(strings.ToLower(v), ",") {
		if !slices.Contains([]string{"all", "none", "energy", "task", "lustre", "network"}, w) {
			m := mistakef(exitSyntax, "invalid --profile=%s option", v)
			m.Hint = "allowed is all, none, energy, task, lustre, network"
			return m
		}
	}
	r.Spec.Profile = v
	return nil
}

func setAcctFreq(r *Request, v string, _ bool) error {
	for w := range strings.SplitSeq(v, ",") {
		kind, n, named := strings.Cut(w, "=")
		if !named {
			kind, n = "task", w
		}
		if !isDigits(n) || !slices.Contains([]string{"task", "energy", "network", "filesystem"}, strings.ToLower(kind)) {
			m := mistakef(exitSyntax, "Invalid --acctg-freq specification: %s", v)
			m.Hint = "allowed is {task|energy|network|filesystem}=seconds"
			return m
		}
	}
	r.Spec.AcctFreq = v
	return nil
}

func setCPUFreq(r *Request, v string, _ bool) error {
	for w := range strings.FieldsFuncSeq(strings.ToLower(v), func(c rune) bool { return c == '-' || c == ':' || c == ',' }) {
		switch w {
		case "low", "medium", "high", "highm1", "conservative", "ondemand", "performance", "powersave", "schedutil", "userspace":
		default:
			if !isDigits(w) {
				return &Mistake{Exit: exitSyntax, Lines: []string{
					fmt.Sprintf("unrecognized --cpu-freq argument %q", v), "Invalid --cpu-freq argument"}}
			}
		}
	}
	r.keep("cpu-freq", v)
	return nil
}

func setGPUBind(r *Request, v string, _ bool) error {
	w := strings.TrimPrefix(strings.TrimPrefix(strings.ToLower(v), "verbose,"), "gpu:")
	name, list, _ := strings.Cut(w, ":")
	switch name {
	case "single", "map_gpu", "mask_gpu", "per_task":
		if list == "" {
			break
		}
		fallthrough
	case "closest", "none":
		r.keep("gpu-bind", v)
		return nil
	}
	return mistakef(exitSyntax, "Invalid --gpu-bind argument: gpu:%s", v)
}

func setMPI(r *Request, v string, _ bool) error {
	r.Step.MPI = v
	return nil
}

func setWait(r *Request, v string, has bool) error {
	if r.Command == Sbatch {
		r.Batch.Wait = true
		return nil
	}
	n, err := number("--wait", v, 0)
	r.Step.Wait = n
	return err
}

func setJobID(r *Request, v string, _ bool) error {
	n, err := number("--jobid", v, 1)
	r.Step.Job = wlm.JobID(n)
	return err
}

func setHetGroup(_ *Request, v string, _ bool) error {
	if v == "0" {
		return nil
	}
	return &Mistake{Exit: exitMistake, Lines: []string{"Invalid --het-group value: " + v},
		Hint: "jobs have one component: allowed is 0"}
}

func setSegment(r *Request, v string, _ bool) error {
	if _, err := number("--segment", v, 1); err != nil {
		return err
	}
	r.keep("segment", v)
	return nil
}

func setWaitAllNodes(r *Request, v string, _ bool) error {
	n, err := number("--wait-all-nodes", v, 0)
	if err != nil || n > 1 {
		return mistakef(exitMistake, "Invalid numeric value %q for --wait-all-nodes.", v)
	}
	r.Spec.WaitAllNodes = []wlm.Tristate{wlm.No, wlm.Yes}[n]
	return nil
}
