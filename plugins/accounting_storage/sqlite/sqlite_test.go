package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/acctstore"
	"github.com/sluice-hpc/sluice/sdk/acctstore/acctstoretest"
)

func TestConformance(t *testing.T) {
	acctstoretest.Run(t, func(t *testing.T) acctstore.Store { return openTemp(t) })
}

func TestBadOptions(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.db")
	if err := os.WriteFile(garbage, bytes.Repeat([]byte("not a database\n"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		options options
		want    string
	}{
		{options{}, `option path="": want the absolute path`},
		{options{Path: "acct.db"}, `option path="acct.db": want the absolute path`},
		{options{Path: filepath.Join(dir, "no", "acct.db")}, "there is no directory"},
		{options{Path: dir}, "is a directory"},
		{options{Path: filepath.Join(dir, "a.db"), Synchronous: "off"}, `option synchronous="off": want full or normal`},
		{options{Path: garbage}, "file is not a database"},
	} {
		store, err := open(t.Context(), test.options)
		if err == nil {
			store.Close()
		}
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %v\nwant one line with %q", test.options, err, test.want)
		}
	}
}

func TestTheFileIsItsOwners(t *testing.T) {
	path := filepath.Join(t.TempDir(), "odd name?#%.db")
	store, err := open(t.Context(), options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Error(err)
		} else if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has mode %o, want 600", info.Name(), mode)
		}
	}
}
