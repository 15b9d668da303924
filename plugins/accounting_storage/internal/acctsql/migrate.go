package acctsql

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

//go:embed migrations/*.sql
var migrations embed.FS

// A migration takes the schema from version-1 to version. Migrations are
// forward-only and are never changed once released.
type migration struct {
	version int
	name    string
	sql     string
}

// readMigrations lists the migrations of a file system in order; their numbers
// must be 1, 2, 3, ...
func readMigrations(fsys fs.FS) ([]migration, error) {
	files, err := fs.Glob(fsys, "migrations/*.sql") // sorted
	if err != nil {
		return nil, err
	}
	var list []migration
	for _, file := range files {
		number, name, _ := strings.Cut(strings.TrimSuffix(path.Base(file), ".sql"), "_")
		version, err := strconv.Atoi(number)
		if err != nil || version != len(list)+1 {
			return nil, fmt.Errorf("migration %s: want number %04d", file, len(list)+1)
		}
		text, err := fs.ReadFile(fsys, file)
		if err != nil {
			return nil, err
		}
		list = append(list, migration{version, name, string(text)})
	}
	return list, nil
}

// migrate brings a database to the newest schema, one transaction a migration,
// and refuses one that a newer release made.
func migrate(ctx context.Context, db *sql.DB, d Dialect, list []migration) error {
	const op = "acctsql.migrate"
	_, err := db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS schema_migrations (
	version BIGINT PRIMARY KEY,
	name    TEXT   NOT NULL,
	applied BIGINT NOT NULL
)`)
	if err != nil {
		return errs.Newf(op, errs.Unavail, "accounting database: %w", err)
	}
	for {
		done, err := migrateOnce(ctx, db, d, list)
		if err != nil {
			var e *errs.Error
			if errors.As(err, &e) {
				return err
			}
			return errs.Newf(op, errs.Unavail, "accounting database: %w", err)
		}
		if done {
			return nil
		}
	}
}

// migrateOnce applies the next migration, or reports that there is none.
func migrateOnce(ctx context.Context, db *sql.DB, d Dialect, list []migration) (done bool, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer tx.Rollback()
	var have sql.NullInt64
	if err := tx.QueryRowContext(ctx, `SELECT MAX(version) FROM schema_migrations`).Scan(&have); err != nil {
		return false, err
	}
	switch {
	case have.Int64 > int64(len(list)):
		return false, errs.Newf("acctsql.migrate", errs.Unsupport,
			"the accounting database has schema %d, this release knows %d: a newer release wrote it", have.Int64, len(list))
	case have.Int64 == int64(len(list)):
		return true, nil
	}
	next := list[have.Int64]
	for statement := range strings.SplitSeq(stripComments(d.schema(next.sql)), ";\n") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return false, fmt.Errorf("migration %04d_%s: %w", next.version, next.name, err)
		}
	}
	_, err = tx.ExecContext(ctx, d.bind(`INSERT INTO schema_migrations (version, name, applied) VALUES (?, ?, ?)`),
		next.version, next.name, time.Now().Unix())
	if err != nil {
		return false, err
	}
	return false, tx.Commit()
}

// stripComments removes "-- ..." from each line; no literal of a migration has one.
func stripComments(sql string) string {
	var b strings.Builder
	for line := range strings.Lines(sql) {
		line, _, _ = strings.Cut(strings.TrimSuffix(line, "\n"), "--")
		b.WriteString(strings.TrimRight(line, " \t"))
		b.WriteByte('\n')
	}
	return b.String()
}
