package slurmconf

import (
	"path/filepath"
	"strings"
)

// clientFile reads the file in the syntax that its extension says.
func clientFile(path string) (*File, error) {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".yaml", ".yml":
		return flatFile(path, ':')
	case ".toml":
		return flatFile(path, '=')
	}
	return ParseFile(path)
}

// flatFile reads the top level of a YAML or TOML file: scalars, and lists of
// scalars in brackets or as YAML items. Tables below that level are skipped.
// It is all that a command needs, and saves it two libraries.
func flatFile(path string, sep byte) (*File, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, Problems{{Pos{File: path}, "", err.Error()}}
	}
	f := &File{Path: path, Files: []string{path}}
	key, table, open := "", false, false // open: inside a TOML list of several lines
	for n, line := range strings.Split(string(data), "\n") {
		pos := Pos{path, n + 1}
		trimmed := strings.TrimSpace(line)
		if trimmed == "" || trimmed[0] == '#' || trimmed == "---" {
			continue
		}
		if open {
			item, _, closes := strings.Cut(trimmed, "]")
			f.addList(key, item, pos)
			if open = !closes; closes {
				key = ""
			}
			continue
		}
		if sep == '=' && trimmed[0] == '[' {
			table = true
		}
		if table {
			continue
		}
		if item, ok := strings.CutPrefix(trimmed, "- "); ok && sep == ':' && key != "" {
			if !strings.Contains(item, ": ") {
				f.add(key, item, pos)
			}
			continue
		}
		if sep == ':' && (line[0] == ' ' || line[0] == '\t') {
			continue
		}
		k, v, ok := strings.Cut(trimmed, string(sep))
		if !ok {
			continue
		}
		k, v = strings.Trim(strings.TrimSpace(k), `"'`), strings.TrimSpace(v)
		if v == "" {
			key = k
			continue
		}
		key = ""
		if list, ok := strings.CutPrefix(v, "["); ok && !strings.ContainsAny(v, "{}") {
			var closes bool
			list, _, closes = strings.Cut(list, "]")
			f.addList(k, list, pos)
			if open = sep == '=' && !closes; open {
				key = k
			}
			continue
		}
		f.add(k, v, pos)
	}
	return f, nil
}

func (f *File) addList(key, list string, pos Pos) {
	for item := range strings.SplitSeq(list, ",") {
		if item = strings.TrimSpace(item); item != "" && item[0] != '#' {
			f.add(key, item, pos)
		}
	}
}

// add appends a scalar without its quotes and trailing comment.
func (f *File) add(key, value string, pos Pos) {
	value = strings.TrimSpace(value)
	if len(value) > 1 && (value[0] == '"' || value[0] == '\'') {
		if end := strings.IndexByte(value[1:], value[0]); end >= 0 {
			value = value[1 : 1+end]
		}
	} else if i := strings.Index(value, " #"); i >= 0 {
		value = strings.TrimSpace(value[:i])
	}
	f.Entries = append(f.Entries, Entry{Pair: Pair{Key: key, Value: value, Pos: pos}})
}
