// Package python carries the library with which plugins are written in Python,
// and packs such a plugin with it into one program.
//
// The library is the folder sluice beside this file; its own comments say how
// it is used. It needs python3-grpcio and python3-protobuf on the host where
// the plugin runs, and nothing where it is packed.
package python

import (
	"archive/zip"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

//go:embed all:sluice
var library embed.FS

// Interpreter is the first line of packed programs: Debian's Python, without
// what a user's environment and home add to it.
const Interpreter = "#!/usr/bin/python3 -I\n"

// Library is the library's files: Python sources below sluice/.
func Library() fs.FS { return library }

// Pack writes a plugin as one program that Python runs: main, and the library.
func Pack(w io.Writer, main []byte) error {
	if _, err := io.WriteString(w, Interpreter); err != nil {
		return err
	}
	z := zip.NewWriter(w)
	z.SetOffset(int64(len(Interpreter)))
	add := func(name string, data []byte) error {
		f, err := z.Create(name)
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		return err
	}
	if err := add("__main__.py", main); err != nil {
		return err
	}
	err := fs.WalkDir(library, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".py") {
			return err
		}
		data, err := library.ReadFile(path)
		if err != nil {
			return err
		}
		return add(path, data)
	})
	if err != nil {
		return err
	}
	return z.Close()
}

// PackFile packs the source main into the program at path.
func PackFile(path, main string) error {
	source, err := os.ReadFile(main)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if err := Pack(f, source); err != nil {
		f.Close()
		return fmt.Errorf("%s: %w", path, err)
	}
	return f.Close()
}
