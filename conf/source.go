package conf

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/viper"

	"github.com/sluice-hpc/sluice/conf/slurmconf"
)

// source is a configuration file after viper, before the table: every pair
// and record with the place where it was written.
type source struct {
	entries []slurmconf.Entry
	files   []string
	bad     slurmconf.Problems
	twice   []slurmconf.Pair // values that a later line replaces
}

// formats maps extensions to viper's names; anything else is slurm.conf.
var formats = map[string]string{".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".json": "json"}

// slurmFormat is our codec's name in viper, which refuses any name outside its
// own list; it has no codec of its own for this one.
const slurmFormat = "ini"

// read loads one file through viper.
func read(path, file string) *source {
	s := &source{files: []string{path}}
	c := &codec{path: path, file: file}
	reg := viper.NewCodecRegistry()
	if err := reg.RegisterCodec(slurmFormat, c); err != nil {
		s.bad = append(s.bad, slurmconf.Problem{Pos: slurmconf.Pos{File: path}, Text: err.Error()})
		return s
	}
	v := viper.NewWithOptions(viper.KeyDelimiter("\x00"), viper.WithCodecRegistry(reg))
	format, flat := formats[strings.ToLower(filepath.Ext(path))]
	if !flat {
		format = slurmFormat
	}
	v.SetConfigType(format)
	var data []byte
	if flat {
		var err error
		if data, err = os.ReadFile(path); err != nil {
			s.bad = append(s.bad, slurmconf.Problem{Pos: slurmconf.Pos{File: path}, Text: err.Error()})
			return s
		}
	}
	if err := v.ReadConfig(bytes.NewReader(data)); err != nil {
		var inner viper.ConfigParseError
		if errors.As(err, &inner) {
			err = inner.Unwrap()
		}
		text := strings.ReplaceAll(err.Error(), "\n", " ")
		s.bad = append(s.bad, slurmconf.Problem{Pos: slurmconf.Pos{File: path}, Text: "not " + format + ": " + text})
		return s
	}
	var at places = scanPlaces(path, data)
	if !flat {
		s.bad, s.twice, at = c.bad, c.twice, c
		s.files = c.parsed.Files
	}
	s.collect(v.AllSettings(), at, file)
	return s
}

// places finds where the n-th value of a key stands, or an option of the n-th
// of total records.
type places interface {
	at(key string, n, total int, opt string) slurmconf.Pos
	spelling(key, known string) string // of a key that viper lower-cased
	option(key string, n int, opt string) string
}

// collect flattens viper's settings into entries.
func (s *source) collect(settings map[string]any, at places, file string) {
	names := make([]string, 0, len(settings))
	for k := range settings {
		names = append(names, k)
	}
	slices.Sort(names)
	for _, name := range names {
		if slurmconf.IsRecord(name) {
			s.records(name, settings[name], at)
			continue
		}
		key := name
		repeat := false
		if k, ok := lookup(file, "global", name); ok {
			key, repeat = k.Name, k.repeatable()
		}
		items := []any{settings[name]}
		if list, ok := settings[name].([]any); ok && repeat {
			items = list
		}
		if m, ok := settings[name].(map[string]any); ok && repeat {
			items = pluginMap(m)
		}
		for i, item := range items {
			pos := at.at(name, i, len(items), "")
			text, err := scalar(item)
			if err != nil {
				s.bad = append(s.bad, slurmconf.Problem{Pos: pos, Key: key, Text: err.Error()})
				continue
			}
			s.entries = append(s.entries, slurmconf.Entry{Pair: slurmconf.Pair{Key: at.spelling(name, key), Value: text, Pos: pos}})
		}
	}
}

// pluginMap turns {"sched/x": {"a": 1}} into "sched/x:a=1" values.
func pluginMap(m map[string]any) []any {
	var out []any
	for _, k := range sortedKeys(m) {
		text, err := scalar(m[k])
		if err != nil {
			text = ""
		}
		out = append(out, k+":"+text)
	}
	return out
}

func (s *source) records(name string, v any, at places) {
	list, ok := v.([]any)
	if m, one := v.(map[string]any); one {
		list, ok = []any{m}, true
	}
	if !ok {
		s.bad = append(s.bad, slurmconf.Problem{Pos: at.at(name, 0, 1, ""), Key: at.spelling(name, name),
			Text: "want a list of records, each with the key " + at.spelling(name, name)})
		return
	}
	for i, item := range list {
		pos := at.at(name, i, len(list), "")
		rec, ok := item.(map[string]any)
		if !ok {
			s.bad = append(s.bad, slurmconf.Problem{Pos: pos, Key: at.spelling(name, name), Text: "want a record, a table of keys and values"})
			continue
		}
		e := slurmconf.Entry{Pair: slurmconf.Pair{Key: at.spelling(name, name), Pos: pos}}
		for _, k := range sortedKeys(rec) {
			items := []any{rec[k]}
			if rep, ok := rec[k].(again); ok {
				items = rep
			}
			for _, it := range items {
				text, err := scalar(it)
				if err != nil {
					s.bad = append(s.bad, slurmconf.Problem{Pos: pos, Key: k, Text: err.Error()})
					continue
				}
				if strings.EqualFold(k, name) {
					e.Value = text
					continue
				}
				e.Opts = append(e.Opts, slurmconf.Pair{Key: at.option(name, i, k), Value: text, Pos: at.at(name, i, len(list), k)})
			}
		}
		s.entries = append(s.entries, e)
	}
}

func sortedKeys(m map[string]any) []string {
	names := make([]string, 0, len(m))
	for k := range m {
		names = append(names, k)
	}
	slices.Sort(names)
	return names
}

// scalar prints what YAML, TOML or JSON can hold in slurm.conf's syntax:
// lists are joined with commas, tables become options.
func scalar(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case bool:
		if v {
			return "yes", nil
		}
		return "no", nil
	case int, int64, int32, uint64, uint:
		return fmt.Sprint(v), nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	case []any:
		parts := make([]string, len(v))
		for i, item := range v {
			text, err := scalar(item)
			if err != nil {
				return "", err
			}
			parts[i] = text
		}
		return strings.Join(parts, ","), nil
	case map[string]any:
		var parts []string
		for _, k := range sortedKeys(v) {
			text, err := scalar(v[k])
			switch {
			case err != nil:
				return "", err
			case v[k] == true:
				parts = append(parts, k)
			case v[k] != false:
				parts = append(parts, k+"="+text)
			}
		}
		return strings.Join(parts, ","), nil
	}
	return "", fmt.Errorf("a value of type %T has no meaning here; write it in double quotes", v)
}
