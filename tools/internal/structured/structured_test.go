package structured

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
	"pgregory.net/rapid"
)

func sample(w *Writer) {
	w.List("jobs")
	w.Object("")
	w.Str("account", "")
	w.Set("accrue_time", 7)
	w.Strs("flags", "A", "B/C")
	w.Strs("gres_detail")
	w.Float("billing", 4)
	w.List("allocation")
	w.Object("")
	w.Int("index", 0)
	w.List("sockets")
	w.Object("")
	w.Bool("whole", false)
	w.End()
	w.End()
	w.End()
	w.End()
	w.End()
	w.End()
	w.Strs("errors")
}

func write(form Form, f func(*Writer)) string {
	var b strings.Builder
	w := New(&b, form)
	f(w)
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.String()
}

const wantJSON = `{
  "jobs": [
    {
      "account": "",
      "accrue_time": {
        "set": true,
        "infinite": false,
        "number": 7
      },
      "flags": [
        "A",
        "B\/C"
      ],
      "gres_detail": [
      ],
      "billing": 4.0,
      "allocation": [
        {
          "index": 0,
          "sockets": [
            {
              "whole": false
            }
          ]
        }
      ]
    }
  ],
  "errors": [
  ]
}
`

const wantYAML = `%YAML 1.1
--- !!map
!!str jobs: !!seq
- !!map
  !!str account: !!str
  !!str accrue_time: !!map
    !!str set: !!bool true
    !!str infinite: !!bool false
    !!str number: !!int 7
  !!str flags: !!seq
  - !!str A
  - !!str B/C
  !!str gres_detail: !!seq []
  !!str billing: !!float 4.000000
  !!str allocation: !!seq
  - !!map
    !!str index: !!int 0
    !!str sockets: !!seq
    - !!map
      !!str whole: !!bool false
!!str errors: !!seq []
...

`

func TestLayout(t *testing.T) {
	if got := write(JSON, sample); got != wantJSON {
		t.Errorf("JSON:\n%s", got)
	}
	if got := write(YAML, sample); got != wantYAML {
		t.Errorf("YAML:\n%s", got)
	}
	got := write(CompactJSON, sample)
	if want := `{"jobs":[{"account":"","accrue_time":{"set":true,"infinite":false,"number":7},`; !strings.HasPrefix(got, want) || strings.Count(got, "\n") != 1 {
		t.Errorf("compact: %s", got)
	}
}

// Any string comes back from both notations.
func TestStrings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := strings.ToValidUTF8(rapid.OneOf(rapid.String(), rapid.StringMatching(`[ -~\n\t]{0,20}`)).Draw(t, "s"), "?")
		if strings.ContainsAny(s, "\u0085\u2028\u2029\ufeff") || hasControl(s) {
			t.Skip("YAML folds these")
		}
		for _, form := range []Form{JSON, CompactJSON} {
			var v map[string]string
			if err := json.Unmarshal([]byte(write(form, func(w *Writer) { w.Str("k", s) })), &v); err != nil || v["k"] != s {
				t.Fatalf("JSON: %q became %q (%v)", s, v["k"], err)
			}
		}
		text := write(YAML, func(w *Writer) { w.Str("k", s) })
		var v map[string]string
		if err := yaml.Unmarshal([]byte(strings.TrimPrefix(text, "%YAML 1.1\n")), &v); err != nil || v["k"] != s {
			t.Fatalf("YAML: %q became %q (%v)\n%s", s, v["k"], err, text)
		}
	})
}

func hasControl(s string) bool {
	for _, r := range s {
		if r >= 0x7f && r < 0xa0 || r >= 0xfff0 || r >= 0xd800 && r < 0xf900 {
			return true
		}
	}
	return false
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestErrorIsKept(t *testing.T) {
	w := New(full{}, JSON)
	sample(w)
	if err := w.Close(); err == nil {
		t.Error("the writer's error was lost")
	}
}
