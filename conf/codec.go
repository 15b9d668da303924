package conf

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/sluice-hpc/sluice/conf/slurmconf"
)

// codec gives viper slurm.conf's syntax. A value is one file: Decode reads
// the file at path when it gets no bytes, so that Includes and positions work.
//
// Viper's map has lower-case keys; ordinary keys hold a string, repeatable
// ones and records a list, a record a map whose own key holds its name.
type codec struct {
	path   string
	file   string // the table's name of the file
	parsed *slurmconf.File
	bad    slurmconf.Problems
	twice  []slurmconf.Pair
	index  map[string][]*slurmconf.Entry // lower-case key
}

// again is an option that a record gives more than once.
type again []any

// Decode implements viper.Decoder. It returns no error: mistakes are kept in
// the codec, because viper would report only that there was one.
func (c *codec) Decode(b []byte, into map[string]any) error {
	var err error
	if len(b) == 0 && c.path != "" {
		c.parsed, err = slurmconf.ParseFile(c.path)
	} else {
		c.parsed, err = slurmconf.Parse(c.path, b)
	}
	if ps, ok := err.(slurmconf.Problems); ok {
		c.bad = ps
	}
	c.index = map[string][]*slurmconf.Entry{}
	for i := range c.parsed.Entries {
		e := &c.parsed.Entries[i]
		key := strings.ToLower(e.Key)
		k, known := lookup(c.file, "global", key)
		list, _ := into[key].([]any)
		switch {
		case slurmconf.IsRecord(key):
			into[key] = append(list, decodeRecord(e))
		case known && k.repeatable():
			into[key] = append(list, e.Value)
		default:
			if old := c.index[key]; len(old) > 0 {
				c.twice = append(c.twice, old[0].Pair)
				c.index[key] = nil
			}
			into[key] = e.Value
		}
		c.index[key] = append(c.index[key], e)
	}
	return nil
}

func decodeRecord(e *slurmconf.Entry) map[string]any {
	rec := map[string]any{strings.ToLower(e.Key): e.Value}
	for _, o := range e.Opts {
		key := strings.ToLower(o.Key)
		switch old := rec[key].(type) {
		case nil:
			rec[key] = o.Value
		case again:
			rec[key] = append(old, o.Value)
		default:
			rec[key] = again{old, o.Value}
		}
	}
	return rec
}

// Encode implements viper.Encoder.
func (c *codec) Encode(settings map[string]any) ([]byte, error) {
	s := &source{}
	s.collect(settings, nowhere{}, c.file)
	if err := s.bad.Err(); err != nil {
		return nil, err
	}
	f := slurmconf.File{Entries: s.entries}
	var out bytes.Buffer
	if err := f.Print(&out); err != nil {
		return nil, fmt.Errorf("conf: %w", err)
	}
	return out.Bytes(), nil
}

func (c *codec) at(key string, n, _ int, opt string) slurmconf.Pos {
	list := c.index[key]
	if n >= len(list) {
		return slurmconf.Pos{File: c.path}
	}
	for _, o := range list[n].Opts {
		if o.Is(opt) {
			return o.Pos
		}
	}
	return list[n].Pos
}

func (c *codec) spelling(key, known string) string {
	if list := c.index[key]; len(list) > 0 {
		return list[0].Key
	}
	return known
}

func (c *codec) option(key string, n int, opt string) string {
	if list := c.index[key]; n < len(list) {
		for _, o := range list[n].Opts {
			if o.Is(opt) {
				return o.Key
			}
		}
	}
	return opt
}

// nowhere has no text behind it.
type nowhere struct{}

func (nowhere) at(string, int, int, string) slurmconf.Pos { return slurmconf.Pos{} }
func (nowhere) spelling(_, known string) string           { return known }
func (nowhere) option(_ string, _ int, opt string) string { return opt }

// textPlaces finds keys in YAML, TOML and JSON by looking for "key:" and
// "key =" in the text; viper does not say where a value stood.
type textPlaces struct {
	path  string
	lines map[string][]int
	names map[string]string
}

var keyInText = regexp.MustCompile(`(?:^|[\s{,-])["']?([A-Za-z][A-Za-z0-9_.]*)["']?\s*[:=]`)

func scanPlaces(path string, data []byte) *textPlaces {
	t := &textPlaces{path: path, lines: map[string][]int{}, names: map[string]string{}}
	for n, line := range strings.Split(string(data), "\n") {
		if s := strings.TrimSpace(line); s == "" || s[0] == '#' {
			continue
		}
		for _, m := range keyInText.FindAllStringSubmatch(line, -1) {
			key := strings.ToLower(m[1])
			t.lines[key] = append(t.lines[key], n+1)
			if t.names[key] == "" {
				t.names[key] = m[1]
			}
		}
	}
	return t
}

// at counts from the end, since in YAML the list's own key comes first.
func (t *textPlaces) at(key string, n, total int, opt string) slurmconf.Pos {
	lines := t.lines[key]
	i := n
	if slurmconf.IsRecord(key) && len(lines) > total {
		i += len(lines) - total
	}
	if len(lines) == 0 {
		return slurmconf.Pos{File: t.path}
	}
	start := lines[min(i, len(lines)-1)]
	if opt == "" || strings.EqualFold(opt, key) {
		return slurmconf.Pos{File: t.path, Line: start}
	}
	end := start + 1<<20
	if i+1 < len(lines) {
		end = lines[i+1]
	}
	for _, l := range t.lines[strings.ToLower(opt)] {
		if l >= start && l < end {
			return slurmconf.Pos{File: t.path, Line: l}
		}
	}
	return slurmconf.Pos{File: t.path, Line: start}
}

func (t *textPlaces) spelling(key, known string) string {
	if s := t.names[key]; s != "" {
		return s
	}
	return known
}

func (t *textPlaces) option(_ string, _ int, opt string) string { return t.spelling(opt, opt) }

func lookup(file, section, name string) (*Key, bool) {
	if file != "slurm.conf" && section == "global" {
		section = "-"
	}
	k, ok := keys().by[file+"/"+section][strings.ToLower(name)]
	return k, ok
}
