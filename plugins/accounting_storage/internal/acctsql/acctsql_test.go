package acctsql

import (
	"context"
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	_ "modernc.org/sqlite"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/acctstore/v1"
)

func openDB(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	return db
}

func TestBind(t *testing.T) {
	const query = "a = ? AND b IN (?, ?)"
	if got := SQLite.bind(query); got != query {
		t.Errorf("SQLite: %s", got)
	}
	if got, want := Postgres.bind(query), "a = $1 AND b IN ($2, $3)"; got != want {
		t.Errorf("PostgreSQL: %s, want %s", got, want)
	}
}

func TestEveryDialectFillsInTheSchema(t *testing.T) {
	list, err := readMigrations(migrations)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []Dialect{SQLite, Postgres} {
		for _, m := range list {
			if s := d.schema(m.sql); strings.Contains(s, "{{") {
				t.Errorf("%s: migration %s has a word without a value:\n%s", d.Name, m.name, s)
			}
		}
	}
}

func TestMigrationsRunOnceAndInOrder(t *testing.T) {
	db := openDB(t)
	fsys := fstest.MapFS{"migrations/0001_a.sql": {Data: []byte("CREATE TABLE a (x {{blob}} -- a; comment\n);\nINSERT INTO a VALUES (1);\n")}}
	list, err := readMigrations(fsys)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := migrate(t.Context(), db, SQLite, list); err != nil {
			t.Fatal(err)
		}
	}
	fsys["migrations/0002_b.sql"] = &fstest.MapFile{Data: []byte("INSERT INTO a VALUES (2);\n")}
	if list, err = readMigrations(fsys); err != nil {
		t.Fatal(err)
	}
	if err := migrate(t.Context(), db, SQLite, list); err != nil {
		t.Fatal(err)
	}
	var rows, version int
	if err := db.QueryRow("SELECT COUNT(*), (SELECT MAX(version) FROM schema_migrations) FROM a").Scan(&rows, &version); err != nil {
		t.Fatal(err)
	}
	if rows != 2 || version != 2 {
		t.Errorf("%d rows at schema %d, want 2 at 2: a migration ran twice or not at all", rows, version)
	}
	err = migrate(t.Context(), db, SQLite, list[:1])
	if errs.KindOf(err) != errs.Unsupport || !strings.Contains(err.Error(), "schema 2") {
		t.Errorf("a database of a newer release must be refused by name: %v", err)
	}
}

func TestAFailedMigrationLeavesNothing(t *testing.T) {
	db := openDB(t)
	list := []migration{{1, "bad", "CREATE TABLE a (x BIGINT);\nNONSENSE;\n"}}
	if err := migrate(t.Context(), db, SQLite, list); err == nil || !strings.Contains(err.Error(), "0001_bad") {
		t.Errorf("want an error that names the migration: %v", err)
	}
	if _, err := db.Exec("SELECT * FROM a"); err == nil {
		t.Error("half of a failed migration is there")
	}
}

func TestMigrationNumbersHaveNoGaps(t *testing.T) {
	fsys := fstest.MapFS{"migrations/0001_a.sql": {}, "migrations/0003_c.sql": {}}
	if _, err := readMigrations(fsys); err == nil || !strings.Contains(err.Error(), "0002") {
		t.Errorf("want an error that names the missing number: %v", err)
	}
}

// TestQueriesUseTheirIndexes keeps sacct quick on large databases.
func TestQueriesUseTheirIndexes(t *testing.T) {
	db := openDB(t)
	s, err := New(context.Background(), db, db, SQLite)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		q    *acctstorev1.Query
		want []string // the index of each select
	}{
		{&acctstorev1.Query{Jobs: []*acctstorev1.JobRef{{Job: 5}, {Job: 7}}},
			[]string{"job_runs_key (cluster=? AND job=?", "job_runs_array (cluster=? AND array_job=?", "job_runs_het (cluster=? AND het_job=?"}},
		{&acctstorev1.Query{Start: 100, End: 200}, []string{"job_runs_time (cluster=? AND ended>?"}},
		{&acctstorev1.Query{Start: 100, States: []uint32{1, 4}}, []string{"job_runs_time (cluster=? AND ended>?"}},
		{&acctstorev1.Query{Start: 100, End: 200, Users: []uint32{7}}, []string{"job_runs_user (cluster=? AND user_id=? AND ended>?"}},
	} {
		f, err := newFilter(test.q)
		if err != nil {
			t.Fatal(err)
		}
		for i, sel := range f.selects(1) {
			plan, err := collect(t.Context(), s, "EXPLAIN QUERY PLAN SELECT r.id, r.job, r.submitted, r.restarts FROM job_runs r WHERE "+sel.where, sel.args,
				func(rows *sql.Rows) (text string, err error) {
					var a, b, c int
					err = rows.Scan(&a, &b, &c, &text)
					return text, err
				})
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(plan, "; "); i >= len(test.want) || !strings.Contains(got, test.want[i]) {
				t.Errorf("query %v, select %d: %s\nwant %v", test.q, i, got, test.want)
			}
		}
	}
}
