package acctsql

import (
	"cmp"
	"context"
	"database/sql"
	"math"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/sluice-hpc/sluice/sdk/acctstore"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/proto/acctstore/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/wlm/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

const (
	chunkRuns  = 64   // runs read in one short transaction
	inlineJobs = 1000 // job ids written into a query; more become a range
)

// Jobs implements [acctstore.Store]. It first reads the keys of the runs that
// the database can select, then the runs themselves in chunks, so that neither
// a large answer nor a slow reader costs more than the keys.
func (s *Store) Jobs(ctx context.Context, q *acctstorev1.Query, yield func(*acctstorev1.JobRow) error) error {
	f, err := newFilter(q)
	if err != nil {
		return err
	}
	clusters, err := s.queryClusters(ctx, q.Cluster)
	if err != nil {
		return unavail(err)
	}
	for _, c := range clusters {
		keys, err := s.keys(ctx, f.selects(c.id))
		if err != nil {
			return unavail(err)
		}
		out := newest{duplicates: q.Duplicates, yield: yield}
		for chunk := range slices.Chunk(keys, chunkRuns) {
			found, err := s.chunk(ctx, c, f, chunk)
			if err != nil {
				return unavail(err)
			}
			for _, row := range found {
				if err := out.put(row); err != nil {
					return err
				}
			}
		}
		if err := out.flush(); err != nil {
			return err
		}
	}
	return nil
}

func unavail(err error) error {
	return errs.Newf("acctsql.Jobs", errs.Unavail, "accounting database: %w", err)
}

// newest lets one run of each job through, the last, unless duplicates are
// asked for; runs arrive in order.
type newest struct {
	duplicates bool
	yield      func(*acctstorev1.JobRow) error
	held       *acctstorev1.JobRow
}

func (n *newest) put(row *acctstorev1.JobRow) error {
	held := n.held
	n.held = row
	if held != nil && (n.duplicates || held.Job.Id != row.Job.Id) {
		return acctstore.SplitRow(held, n.yield)
	}
	return nil
}

func (n *newest) flush() error {
	if n.held == nil {
		return nil
	}
	return acctstore.SplitRow(n.held, n.yield)
}

type clusterRow struct {
	id   int64
	name string
}

// queryClusters finds the cluster of a query; all of them by name when it
// names none.
func (s *Store) queryClusters(ctx context.Context, name string) ([]clusterRow, error) {
	query, args := `SELECT id, name FROM clusters ORDER BY name`, []any(nil)
	if name != "" {
		query, args = `SELECT id, name FROM clusters WHERE name = ?`, []any{name}
	}
	return collect(ctx, s, query, args, func(rows *sql.Rows) (c clusterRow, err error) {
		err = rows.Scan(&c.id, &c.name)
		return c, err
	})
}

// collect reads all rows of a query.
func collect[T any](ctx context.Context, s *Store, query string, args []any, scan func(*sql.Rows) (T, error)) ([]T, error) {
	rows, err := s.read.QueryContext(ctx, s.dialect.bind(query), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		row, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, row)
	}
	return out, rows.Err()
}

// key is the place of a run in an answer.
type key struct {
	id int64
	runKey
}

// keys reads the keys that the selects find, in order, each once.
func (s *Store) keys(ctx context.Context, selects []selection) ([]key, error) {
	var all []key
	for _, sel := range selects {
		keys, err := collect(ctx, s, `SELECT r.id, r.job, r.submitted, r.restarts FROM job_runs r WHERE `+sel.where, sel.args,
			func(rows *sql.Rows) (k key, err error) {
				err = rows.Scan(&k.id, &k.job, &k.submit, &k.restarts)
				return k, err
			})
		if err != nil {
			return nil, err
		}
		all = append(all, keys...)
	}
	// Sorted here and not by the database, which might then prefer the index
	// that is in order over the one that finds few rows.
	slices.SortFunc(all, func(a, b key) int {
		return cmp.Or(cmp.Compare(a.job, b.job), cmp.Compare(a.submit, b.submit), cmp.Compare(a.restarts, b.restarts))
	})
	return slices.Compact(all), nil
}

// chunk reads some runs with their steps and keeps those that the filter wants.
func (s *Store) chunk(ctx context.Context, c clusterRow, f *filter, keys []key) ([]*acctstorev1.JobRow, error) {
	ids := make([]int64, len(keys))
	for i, k := range keys {
		ids[i] = k.id
	}
	runs, err := collect(ctx, s, `SELECT phase, state, flags, ended, record FROM job_runs WHERE id IN (`+literals(ids)+`)`, nil, scanRun)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(runs, func(a, b *wlmv1.Job) int {
		return cmp.Or(cmp.Compare(a.Id, b.Id), cmp.Compare(a.Submit, b.Submit), cmp.Compare(a.Restarts, b.Restarts))
	})
	runs = slices.DeleteFunc(runs, func(j *wlmv1.Job) bool { return !f.wants(j) })
	var steps map[runKey][]*wlmv1.Step
	if !f.query.AllocationsOnly && len(runs) > 0 {
		if steps, err = s.steps(ctx, c.id, runs); err != nil {
			return nil, err
		}
	}
	var out []*acctstorev1.JobRow
	for _, j := range runs {
		some, ok := f.steps(j, steps[keyOf(j)])
		if ok {
			out = append(out, &acctstorev1.JobRow{Cluster: c.name, Job: j, Steps: some})
		}
	}
	return out, nil
}

func scanRun(rows *sql.Rows) (*wlmv1.Job, error) {
	var state, flags uint32
	var at phase
	var ended int64
	var record sql.RawBytes
	if err := rows.Scan(&at, &state, &flags, &ended, &record); err != nil {
		return nil, err
	}
	j := &wlmv1.Job{}
	if err := proto.Unmarshal(record, j); err != nil {
		return nil, err
	}
	j.State, j.Flags = state, flags
	if at == waiting {
		j.Alloc, j.AllocTres, j.BatchHost, j.Cleaning = nil, "", "", nil
	}
	if ended != open {
		j.End = ended
	}
	return j, nil
}

// steps reads the steps of runs, in order.
func (s *Store) steps(ctx context.Context, cluster int64, runs []*wlmv1.Job) (map[runKey][]*wlmv1.Step, error) {
	jobs := make([]int64, len(runs))
	for i, j := range runs {
		jobs[i] = int64(j.Id)
	}
	type keyed struct {
		key  runKey
		step *wlmv1.Step
	}
	list, err := collect(ctx, s, `SELECT job, submitted, restarts, ended, record FROM job_steps
WHERE cluster = ? AND job IN (`+literals(slices.Compact(jobs))+`) ORDER BY job, submitted, restarts, step`, []any{cluster},
		func(rows *sql.Rows) (k keyed, err error) {
			var ended int64
			var record sql.RawBytes
			if err := rows.Scan(&k.key.job, &k.key.submit, &k.key.restarts, &ended, &record); err != nil {
				return k, err
			}
			k.step = &wlmv1.Step{}
			if err := proto.Unmarshal(record, k.step); err != nil {
				return k, err
			}
			if ended != open {
				k.step.End = ended
			}
			return k, nil
		})
	if err != nil {
		return nil, err
	}
	steps := map[runKey][]*wlmv1.Step{}
	for _, k := range list {
		steps[k.key] = append(steps[k.key], k.step)
	}
	return steps, nil
}

// literals writes numbers for an IN list.
func literals[T int64 | uint32](list []T) string {
	var b []byte
	for i, n := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(n), 10)
	}
	return string(b)
}

// filter is a query, checked and made ready.
type filter struct {
	query      *acctstorev1.Query
	start, end int64 // the window, closed
	refs       map[uint32][]*acctstorev1.JobRef
	jobs       []uint32      // keys of refs, sorted
	nodes      *hostlist.Set // nil: any
}

func newFilter(q *acctstorev1.Query) (*filter, error) {
	const op = "acctsql.Jobs"
	f := &filter{query: q, start: q.Start, end: q.End}
	if f.end == 0 {
		f.end = math.MaxInt64 - 1
	}
	if f.start < 0 || f.start > f.end {
		return nil, errs.Newf(op, errs.Invalid, "time window: start %d is after end %d", q.Start, q.End)
	}
	for _, state := range q.States {
		if base := state & 0xff; base > uint32(wlm.OutOfMemory) || state > 0xff && base != 0 {
			return nil, errs.Newf(op, errs.Invalid,
				"state %d: want the number of a base state, 0 to %d, or a flag's bit shifted left by 8", state, wlm.OutOfMemory)
		}
	}
	if q.Nodes != "" {
		set, err := hostlist.Parse(q.Nodes)
		if err != nil {
			return nil, errs.Newf(op, errs.Invalid, "nodes: %w", err)
		}
		f.nodes = set
	}
	if len(q.Jobs) > 0 {
		f.refs = map[uint32][]*acctstorev1.JobRef{}
		for _, ref := range q.Jobs {
			if f.refs[ref.Job] == nil {
				f.jobs = append(f.jobs, ref.Job)
			}
			f.refs[ref.Job] = append(f.refs[ref.Job], ref)
		}
		slices.Sort(f.jobs)
	}
	return f, nil
}

// selection is a WHERE clause over job_runs r with its arguments.
type selection struct {
	where string
	args  []any
}

func (s *selection) and(condition string, args ...any) {
	if s.where != "" {
		s.where += " AND "
	}
	s.where += condition
	s.args = append(s.args, args...)
}

// selects writes what the database can decide: one clause, or with job ids
// three, so that each can use its own index.
func (f *filter) selects(cluster int64) []selection {
	common := f.common(cluster)
	if f.refs == nil {
		return []selection{common}
	}
	among := "BETWEEN " + strconv.FormatUint(uint64(f.jobs[0]), 10) + " AND " + strconv.FormatUint(uint64(f.jobs[len(f.jobs)-1]), 10)
	if len(f.jobs) <= inlineJobs {
		among = "IN (" + literals(f.jobs) + ")"
	}
	var list []selection
	for _, column := range []string{"job", "array_job", "het_job"} {
		sel := selection{where: "r." + column + " " + among}
		if column != "job" {
			sel.and("r." + column + " <> 0") // as its index says
		}
		sel.and(common.where, common.args...)
		list = append(list, sel)
	}
	return list
}

func (f *filter) common(cluster int64) selection {
	q := f.query
	var s selection
	s.and("r.cluster = ?", cluster)
	s.and("r.hidden = 0")
	if len(q.Users) > 0 {
		s.and("r.user_id IN (" + literals(q.Users) + ")")
	}
	if len(q.Groups) > 0 {
		s.and("r.group_id IN (" + literals(q.Groups) + ")")
	}
	for _, c := range []struct {
		column string
		words  []string
	}{{"account", q.Accounts}, {"partition", q.Partitions}, {"name", q.Names}, {"qos", q.Qos}, {"wckey", q.Wckeys}} {
		if len(c.words) > 0 {
			args := make([]any, len(c.words))
			for i, w := range c.words {
				args[i] = w
			}
			s.and("r."+c.column+" IN ("+marks(len(args))+")", args...)
		}
	}
	for _, b := range []struct {
		column   string
		min, max uint32
	}{{"cpus", q.MinCpus, q.MaxCpus}, {"nodes", q.MinNodes, q.MaxNodes}} {
		if b.min > 0 {
			s.and("r."+b.column+" >= ?", int64(b.min))
		}
		if b.max > 0 {
			s.and("r."+b.column+" <= ?", int64(b.max))
		}
	}
	if f.nodes != nil {
		s.and("r.nodes > 0")
	}
	f.window(&s)
	return s
}

// window adds the conditions on time and state; [acctstore.Store] says what
// they mean.
func (f *filter) window(s *selection) {
	if f.start > 0 {
		s.and("r.ended >= ?", f.start) // implied by all that follows, and indexed
	}
	if f.query.End > 0 {
		s.and("r.submitted <= ?", f.end) // too
	}
	eligible := "r.eligible"
	if f.start == 0 {
		eligible = "(CASE WHEN r.eligible = 0 THEN r.submitted ELSE r.eligible END)"
	}
	if len(f.query.States) == 0 {
		s.and(eligible+" <> 0 AND "+eligible+" <= ?", f.end)
		return
	}
	var any selection
	for _, state := range f.query.States {
		c := f.inState(state, eligible)
		if any.where != "" {
			any.where += " OR "
		}
		any.where += "(" + c.where + ")"
		any.args = append(any.args, c.args...)
	}
	s.and("("+any.where+")", any.args...)
}

// inState is the condition that a run was in a state in the window.
func (f *filter) inState(state uint32, eligible string) (s selection) {
	switch base := wlm.JobState(state & 0xff); {
	case state > 0xff:
		s.and("(r.flags & ?) <> 0 AND r.ended >= ? AND (r.phase <> 2 OR r.ended <= ?)", int64(state>>8), f.start, f.end)
	case base == wlm.Pending:
		f.during(&s, eligible, "(CASE WHEN r.started <> 0 THEN r.started ELSE r.ended END)")
	case base == wlm.Running:
		// A job that was cancelled while it waited starts and ends at one moment, on no node.
		s.and("(r.phase = 1 OR r.phase = 2 AND (r.started < r.ended OR r.nodes > 0))")
		f.during(&s, "r.started", "r.ended")
	case base == wlm.Suspended:
		var during selection
		f.during(&during, "p.moment", `COALESCE((SELECT MIN(g.moment) FROM job_suspensions g
WHERE g.cluster = r.cluster AND g.job = r.job AND g.submitted = r.submitted AND g.restarts = r.restarts
AND g.suspended = 0 AND g.moment >= p.moment), r.ended)`)
		s.and(`EXISTS (SELECT 1 FROM job_suspensions p
WHERE p.cluster = r.cluster AND p.job = r.job AND p.submitted = r.submitted AND p.restarts = r.restarts
AND p.suspended = 1 AND `+during.where+`)`, during.args...)
	default:
		s.and("r.state = ? AND r.phase = 2 AND r.ended >= ? AND r.ended <= ?", int64(base), f.start, f.end)
	}
	return s
}

// during adds that [from, to) meets the window. An empty interval meets a
// window that has its moment, unless the window is a moment itself.
func (f *filter) during(s *selection, from, to string) {
	s.and(from+" <> 0 AND "+from+" <= ?", f.end)
	if f.start == f.end {
		s.and(to+" > ?", f.start)
		return
	}
	s.and("("+to+" > ? OR "+from+" >= ?)", f.start, f.start)
}

// wants decides what the database cannot: job references and nodes.
func (f *filter) wants(j *wlmv1.Job) bool {
	if f.refs != nil && len(f.refsOf(j)) == 0 {
		return false
	}
	return f.nodes == nil || f.onNodes(j)
}

// refsOf lists the references that mean a run: by its own id, by its array's
// with no task or the run's, or by its heterogeneous job's. The record of waiting
// tasks is meant by each of them.
func (f *filter) refsOf(j *wlmv1.Job) (out []*acctstorev1.JobRef) {
	whole := func(ids ...uint32) {
		for i, id := range ids {
			if id == 0 || slices.Contains(ids[:i], id) {
				continue
			}
			for _, ref := range f.refs[id] {
				if !ref.HasTask {
					out = append(out, ref)
				}
			}
		}
	}
	whole(j.Id, j.ArrayJob, j.HetJob)
	if j.ArrayJob == 0 {
		return out
	}
	for _, ref := range f.refs[j.ArrayJob] {
		if ref.HasTask && (ref.Task == j.ArrayTask || arrayRecord(j) && inRanges(j.ArrayTasks, ref.Task)) {
			out = append(out, ref)
		}
	}
	return out
}

func inRanges(ranges []*wlmv1.IDRange, task uint32) bool {
	for _, r := range ranges {
		if task >= r.First && task <= r.Last && (task-r.First)%max(r.Step, 1) == 0 {
			return true
		}
	}
	return false
}

func (f *filter) onNodes(j *wlmv1.Job) bool {
	for _, n := range j.GetAlloc().GetNodes() {
		if f.nodes.Has(n.Node) {
			return true
		}
	}
	if len(j.GetAlloc().GetNodes()) > 0 {
		return false
	}
	hosts, err := hostlist.Expand(j.GetAlloc().GetNodeList())
	return err == nil && slices.ContainsFunc(hosts, f.nodes.Has)
}

// steps picks the steps that were asked for; ok is false when steps were named
// and the run has none of them.
func (f *filter) steps(j *wlmv1.Job, all []*wlmv1.Step) (some []*wlmv1.Step, ok bool) {
	if f.refs == nil || f.query.AllocationsOnly {
		return all, true
	}
	named := map[uint32]bool{}
	for _, ref := range f.refsOf(j) {
		if !ref.HasStep {
			return all, true
		}
		named[ref.Step] = true
	}
	for _, s := range all {
		if named[s.Id] {
			some = append(some, s)
		}
	}
	return some, len(some) > 0
}
