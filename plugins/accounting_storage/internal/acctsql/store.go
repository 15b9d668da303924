// Package acctsql keeps accounting records in an SQL database. It is the one
// implementation behind accounting_storage plugins with a database of their own:
// they bring the driver and a [Dialect], this package the schema, its migrations
// and the queries.
//
// Invariants: a batch is one transaction, and what Append acknowledged is
// committed as durably as the database was opened to be. Rows are upserts by key
// (cluster, job, submit time, restarts, and step); of two facts about a key the
// one of the later phase holds, and within a phase the one of the higher number,
// so neither repetition nor order of arrival changes the result. Nothing is
// deleted. A query reads in short transactions and holds none while its reader
// is slow; a run that changes meanwhile is shown as it was or as it is.
//
// Failures: an unreachable, full or damaged database is an error of Append or
// Jobs (kind Unavail) and nothing of the batch is stored; a database of a newer
// schema refuses to open.
package acctsql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/sluice-hpc/sluice/sdk/acctstore"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/acctstore/v1"
)

// Store is an [acctstore.Store] over a database. Append calls are serialized.
type Store struct {
	dialect Dialect
	write   *sql.DB // one connection
	read    *sql.DB

	mu       sync.Mutex // held over a whole Append; guards clusters
	clusters map[string]int64
}

var _ acctstore.Store = (*Store)(nil)

// New brings the database to the present schema and returns a store over it.
// write must have at most one connection; both pools belong to the store then.
func New(ctx context.Context, write, read *sql.DB, d Dialect) (*Store, error) {
	list, err := readMigrations(migrations)
	if err != nil {
		return nil, errs.Newf("acctsql.New", errs.Internal, "%w", err)
	}
	if err := migrate(ctx, write, d, list); err != nil {
		return nil, err
	}
	return &Store{dialect: d, write: write, read: read, clusters: map[string]int64{}}, nil
}

// Close closes both pools.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.read.Close(), s.write.Close())
}

// Append implements [acctstore.Store].
func (s *Store) Append(ctx context.Context, cluster string, records []*acctstorev1.Record) (uint64, error) {
	if len(records) == 0 {
		return 0, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// The transaction is short and must not be cut in the middle by a caller
	// that gave up: whether it happened is then known to nobody.
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	acked, err := s.appendLocked(context.WithoutCancel(ctx), cluster, records)
	if err != nil {
		return 0, errs.Newf("acctsql.Append", errs.Unavail, "accounting database: %w", err)
	}
	return acked, nil
}

func (s *Store) appendLocked(ctx context.Context, cluster string, records []*acctstorev1.Record) (uint64, error) {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	w := &writer{s: s, ctx: ctx, tx: tx}
	if w.cluster, err = w.clusterID(cluster); err != nil {
		return 0, err
	}
	batch, err := fold(records, w.present)
	if err != nil {
		return 0, err
	}
	if err := w.put(batch); err != nil {
		return 0, err
	}
	if err := w.exec(`UPDATE clusters SET acked = ? WHERE id = ?`, int64(batch.last), w.cluster); err != nil {
		return 0, err
	}
	if err := tx.Commit(); err != nil {
		return 0, err
	}
	s.clusters[cluster] = w.cluster
	return batch.last, nil
}

// writer writes one transaction.
type writer struct {
	s       *Store
	ctx     context.Context
	tx      *sql.Tx
	cluster int64
}

func (w *writer) exec(query string, args ...any) error {
	_, err := w.tx.ExecContext(w.ctx, w.s.dialect.bind(query), args...)
	return err
}

// clusterID numbers a cluster, when it is new for the first time.
func (w *writer) clusterID(name string) (id int64, err error) {
	if id, known := w.s.clusters[name]; known {
		return id, nil
	}
	if err := w.exec(`INSERT INTO clusters (name, acked) VALUES (?, 0) ON CONFLICT (name) DO NOTHING`, name); err != nil {
		return 0, err
	}
	err = w.tx.QueryRowContext(w.ctx, w.s.dialect.bind(`SELECT id FROM clusters WHERE name = ?`), name).Scan(&id)
	return id, err
}

// present returns the newest run of a job; without one, the run that a job
// without a record would have.
func (w *writer) present(job uint32) (runKey, error) {
	key := runKey{job: job}
	err := w.tx.QueryRowContext(w.ctx, w.s.dialect.bind(`SELECT submitted, restarts FROM job_runs
WHERE cluster = ? AND job = ? ORDER BY submitted DESC, restarts DESC LIMIT 1`), w.cluster, int64(job)).Scan(&key.submit, &key.restarts)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return key, err
}

// runColumns are the columns of job_runs in the order of writer.put; the first
// four are the key.
var runColumns = []string{"cluster", "job", "submitted", "restarts", "phase", "number", "hidden", "array_job", "array_task",
	"het_job", "state", "flags", "eligible", "started", "ended", "user_id", "group_id", "user_name", "account", "partition", "qos",
	"wckey", "name", "cpus", "nodes", "node_list", "tres", "status", "record"}

// stepColumns are those of job_steps; the first five are the key.
var stepColumns = []string{"cluster", "job", "submitted", "restarts", "step", "phase", "number", "state", "started", "ended",
	"name", "cpus", "node_list", "tres", "status", "record"}

var nodeColumns = []string{"cluster", "node", "moment", "up", "number", "state", "flags", "reason", "reason_user", "cpus"}

var (
	putRun        = upsert("job_runs", runColumns, 4)
	putStep       = upsert("job_steps", stepColumns, 5)
	putSuspension = `INSERT INTO job_suspensions (cluster, job, submitted, restarts, moment, suspended)
VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (cluster, job, submitted, restarts, moment, suspended) DO NOTHING`
	putNode = `INSERT INTO node_events (` + strings.Join(nodeColumns, ", ") + `)
VALUES (` + marks(len(nodeColumns)) + `) ON CONFLICT (cluster, node, moment, up) DO NOTHING`
)

// upsert writes the statement that puts a row whose first keys columns are its
// key, unless the table has a later fact.
func upsert(table string, columns []string, keys int) string {
	var set []string
	for _, c := range columns[keys:] {
		set = append(set, c+" = excluded."+c)
	}
	return fmt.Sprintf(`INSERT INTO %[1]s (%[2]s) VALUES (%[3]s) ON CONFLICT (%[4]s) DO UPDATE SET %[5]s
WHERE excluded.phase > %[1]s.phase OR excluded.phase = %[1]s.phase AND excluded.number > %[1]s.number`,
		table, strings.Join(columns, ", "), marks(len(columns)), strings.Join(columns[:keys], ", "), strings.Join(set, ", "))
}

func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }

// put writes the rows of a batch.
func (w *writer) put(b *rows) error {
	if err := w.each(putRun, len(b.runs), func(i int) ([]any, error) { return w.runArgs(b.runs[i]) }); err != nil {
		return err
	}
	if err := w.each(putStep, len(b.steps), func(i int) ([]any, error) { return w.stepArgs(b.steps[i]) }); err != nil {
		return err
	}
	err := w.each(putSuspension, len(b.suspensions), func(i int) ([]any, error) {
		s := b.suspensions[i]
		return []any{w.cluster, int64(s.run.job), s.run.submit, int64(s.run.restarts), s.moment, flag(s.on)}, nil
	})
	if err != nil {
		return err
	}
	return w.each(putNode, len(b.nodes), func(i int) ([]any, error) {
		e := b.nodes[i]
		n := e.record
		return []any{w.cluster, n.Name, e.moment, flag(e.up), int64(e.number), int64(n.State), int64(n.Flags),
			n.Reason, int64(n.ReasonUser), int64(n.Cpus)}, nil
	})
}

// each runs a statement n times.
func (w *writer) each(query string, n int, args func(i int) ([]any, error)) error {
	if n == 0 {
		return nil
	}
	st, err := w.tx.PrepareContext(w.ctx, w.s.dialect.bind(query))
	if err != nil {
		return err
	}
	defer st.Close()
	for i := range n {
		a, err := args(i)
		if err != nil {
			return err
		}
		if _, err := st.ExecContext(w.ctx, a...); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) runArgs(r *run) ([]any, error) {
	j := r.record
	record, err := proto.Marshal(j)
	if err != nil {
		return nil, err
	}
	arrayJob, arrayTask := r.array()
	cpus, nodes := r.allocated()
	spec := j.Spec // getters tolerate nil
	tres := j.AllocTres
	if r.alloc() == nil {
		tres = ""
	}
	return []any{w.cluster, int64(r.key.job), r.key.submit, int64(r.key.restarts), int64(r.fact.phase), int64(r.fact.number),
		flag(r.hidden()), arrayJob, arrayTask, int64(j.HetJob), int64(r.state), int64(r.flags), j.Eligible, j.Start, r.ended,
		int64(spec.GetUser()), int64(spec.GetGroup()), spec.GetUserName(), spec.GetAccount(), j.Partition, spec.GetQos(),
		spec.GetWckey(), spec.GetName(), int64(cpus), int64(nodes), r.alloc().GetNodeList(), tres,
		int64(j.Status), record}, nil
}

func (w *writer) stepArgs(s *step) ([]any, error) {
	record, err := proto.Marshal(s.record)
	if err != nil {
		return nil, err
	}
	return []any{w.cluster, int64(s.key.job), s.key.submit, int64(s.key.restarts), int64(s.key.step), int64(s.fact.phase),
		int64(s.fact.number), int64(s.record.State), s.record.Start, s.ended, s.record.Name, int64(s.record.Cpus),
		s.record.NodeList, s.record.Tres, int64(s.record.Status), record}, nil
}

func flag(on bool) int64 {
	if on {
		return 1
	}
	return 0
}
