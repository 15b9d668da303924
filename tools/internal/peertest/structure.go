package peertest

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// CheckStructure compares two JSON or YAML documents value by value, in
// order. Values are named as "jobs.0.account=research"; those that differs
// accepts are left out on both sides.
func CheckStructure(t testing.TB, got, want string, differs func(path string) bool) {
	t.Helper()
	keep := func(text string) string {
		var kept []string
		for _, l := range flatten(t, text) {
			if !differs(l) {
				kept = append(kept, l)
			}
		}
		return strings.Join(kept, "\n")
	}
	diff(t, "structure", keep(got), keep(want))
}

func flatten(t testing.TB, text string) []string {
	t.Helper()
	if rest, is := strings.CutPrefix(text, "%YAML 1.1\n"); is {
		var n yaml.Node
		if err := yaml.Unmarshal([]byte(rest), &n); err != nil {
			t.Fatal(err)
		}
		return flattenYAML(nil, "", n.Content[0])
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	lines, err := flattenJSON(nil, d, "")
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func flattenYAML(out []string, path string, n *yaml.Node) []string {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i < len(n.Content); i += 2 {
			out = flattenYAML(out, path+"."+n.Content[i].Value, n.Content[i+1])
		}
	case yaml.SequenceNode:
		for i, c := range n.Content {
			out = flattenYAML(out, fmt.Sprintf("%s.%d", path, i), c)
		}
	default:
		return append(out, strings.TrimPrefix(path, ".")+"="+n.Value)
	}
	if len(n.Content) == 0 {
		out = append(out, strings.TrimPrefix(path, ".")+"=empty")
	}
	return out
}

func flattenJSON(out []string, d *json.Decoder, path string) ([]string, error) {
	tok, err := d.Token()
	if err != nil {
		return out, err
	}
	open, nested := tok.(json.Delim)
	if !nested {
		return append(out, fmt.Sprintf("%s=%v", strings.TrimPrefix(path, "."), tok)), nil
	}
	n := 0
	for ; d.More(); n++ {
		key := fmt.Sprint(n)
		if open == '{' {
			if tok, err = d.Token(); err != nil {
				return out, err
			}
			key = tok.(string)
		}
		if out, err = flattenJSON(out, d, path+"."+key); err != nil {
			return out, err
		}
	}
	if n == 0 {
		out = append(out, strings.TrimPrefix(path, ".")+"=empty")
	}
	if _, err = d.Token(); err == io.EOF {
		err = nil
	}
	return out, err
}
