package main

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	_ "modernc.org/sqlite" // the driver "sqlite", without cgo

	"github.com/sluice-hpc/sluice/plugins/accounting_storage/internal/acctsql"
	"github.com/sluice-hpc/sluice/sdk/errs"
)

// readers is how many queries run at once; more wait.
const readers = 4

// options are the plugin's options, as slurm.conf or its host gives them.
type options struct {
	Path        string `option:"path" doc:"absolute path of the database file; its directory exists"`
	Synchronous string `option:"synchronous" doc:"what a lost power supply may take: nothing (full) or the last second (normal)" allowed:"full or normal"`
}

// open opens or creates the database file, for its owner only, and brings it to
// the present schema.
func open(ctx context.Context, o options) (*acctsql.Store, error) {
	const op = "sqlite.open"
	if !filepath.IsAbs(o.Path) {
		return nil, errs.Newf(op, errs.Invalid, "option path=%q: want the absolute path of the database file", o.Path)
	}
	sync := strings.ToLower(o.Synchronous)
	if sync == "" {
		sync = "full"
	}
	if sync != "full" && sync != "normal" {
		return nil, errs.Newf(op, errs.Invalid, "option synchronous=%q: want full or normal", o.Synchronous)
	}
	if info, err := os.Stat(filepath.Dir(o.Path)); err != nil || !info.IsDir() {
		return nil, errs.Newf(op, errs.Invalid, "option path=%q: there is no directory %s", o.Path, filepath.Dir(o.Path))
	}
	// Made here for its mode, which SQLite also gives to the files beside it.
	file, err := os.OpenFile(o.Path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, errs.Newf(op, errs.Unavail, "option path=%q: %w", o.Path, err)
	}
	file.Close()

	write, err := sql.Open("sqlite", source(o.Path, "_txlock=immediate",
		"journal_mode(WAL)", "synchronous("+sync+")", "cache_size(-65536)", "wal_autocheckpoint(4000)"))
	if err != nil {
		return nil, errs.Newf(op, errs.Unavail, "%s: %w", o.Path, err)
	}
	write.SetMaxOpenConns(1)
	read, err := sql.Open("sqlite", source(o.Path, "mode=ro", "query_only(1)", "cache_size(-16384)"))
	if err != nil {
		write.Close()
		return nil, errs.Newf(op, errs.Unavail, "%s: %w", o.Path, err)
	}
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers)
	store, err := acctsql.New(ctx, write, read, acctsql.SQLite)
	if err != nil {
		write.Close()
		read.Close()
		return nil, errs.Newf(op, errs.KindOf(err), "%s: %w", o.Path, err)
	}
	return store, nil
}

// source writes the driver's name of a database with its settings.
func source(path, setting string, pragmas ...string) string {
	u := url.URL{Scheme: "file", Path: path}
	query := setting + "&_pragma=busy_timeout(10000)"
	for _, p := range pragmas {
		query += "&_pragma=" + p
	}
	u.RawQuery = query
	return u.String()
}
