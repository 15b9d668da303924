package main

import (
	"database/sql"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestTheManualsQueriesRun keeps the SQL in accounting.md right.
func TestTheManualsQueriesRun(t *testing.T) {
	text, err := os.ReadFile("../../../contrib/docs/reference/accounting.md")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "accounting.db")
	store, err := open(t.Context(), options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := store.Append(t.Context(), "c", life(1, 1)); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", source(path, "mode=ro"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	queries := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllSubmatch(text, -1)
	if len(queries) == 0 {
		t.Error("no queries found")
	}
	for _, q := range queries {
		rows, err := db.Query(string(q[1]))
		if err != nil {
			t.Errorf("%v in\n%s", err, q[1])
			continue
		}
		for rows.Next() {
		}
		if err := rows.Err(); err != nil {
			t.Errorf("%v in\n%s", err, q[1])
		}
		rows.Close()
	}
}
