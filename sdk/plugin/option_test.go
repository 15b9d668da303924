package plugin

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/sdk/proto/plugin/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

type config struct {
	Depth   int           `option:"depth" allowed:"1 to 100"`
	Small   uint8         `option:"small"`
	Window  time.Duration `option:"window" unit:"minutes" allowed:"0 to 1440"`
	Memory  wlm.MiB       `option:"memory" allowed:"1M to 1G"`
	Which   string        `option:"which" allowed:"first, last or none"`
	Many    []string      `option:"many"`
	Enabled bool          `option:"enabled"`
}

func defaults() config {
	return config{Depth: 5, Window: time.Hour, Memory: 100, Which: "first", Many: []string{"a", "b"}}
}

func TestOptions(t *testing.T) {
	def := defaults()
	declared := optionsToWire(OptionsOf(&def))
	set := func(change func(*config)) config {
		c := defaults()
		change(&c)
		return c
	}
	for _, tt := range []struct {
		name, value string
		want        config
		says        string // of the error
	}{
		{"depth", "7", set(func(c *config) { c.Depth = 7 }), ""},
		{"DEPTH", " 7 ", set(func(c *config) { c.Depth = 7 }), ""},
		{"depth", "0", config{}, "depth: 0 is out of range, allowed: 1 to 100"},
		{"depth", "7x", config{}, `"7x" is not a whole number`},
		{"depth", "", config{}, "is not a whole number"},
		{"small", "256", config{}, "256 does not fit a uint8"},
		{"small", "-1", config{}, "-1 does not fit a uint8"},
		{"window", "30", set(func(c *config) { c.Window = 30 * time.Minute }), ""},
		{"window", "90s", set(func(c *config) { c.Window = 90 * time.Second }), ""},
		{"window", "1441", config{}, "out of range"},
		{"window", "99999999999999999", config{}, "is not a time"},
		{"memory", "512", set(func(c *config) { c.Memory = 512 }), ""},
		{"memory", "1g", set(func(c *config) { c.Memory = 1024 }), ""},
		{"memory", "2G", config{}, "out of range"},
		{"memory", "18446744073709551615P", config{}, "is not a size"},
		{"which", "LAST", set(func(c *config) { c.Which = "LAST" }), ""},
		{"which", "middle", config{}, `"middle" is not allowed, allowed: first, last or none`},
		{"many", "x, y,,z", set(func(c *config) { c.Many = []string{"x", "y", "z"} }), ""},
		{"many", "", set(func(c *config) { c.Many = []string{} }), ""},
		{"enabled", "Yes", set(func(c *config) { c.Enabled = true }), ""},
		{"enabled", "maybe", config{}, "neither yes nor no"},
		{"nosuch", "1", config{}, "f:1: unknown option nosuch, allowed are depth, small, window, memory, which, many, enabled"},
	} {
		t.Run(tt.name+"="+tt.value, func(t *testing.T) {
			o, err := parseOptions(declared, []*pluginv1.OptionValue{{Name: tt.name, Value: tt.value, Origin: "f:1"}})
			var got config
			if err == nil {
				err = o.Decode(&got)
			}
			if tt.says == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("error %v, want %q in it", err, tt.says)
			}
			if err == nil && !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// What a struct holds, as a default, decodes to itself.
func TestDefaultsDecodeToThemselves(t *testing.T) {
	def := defaults()
	o, err := parseOptions(optionsToWire(OptionsOf(&def)), nil)
	var got config
	if err == nil {
		err = o.Decode(&got)
	}
	if err != nil || !reflect.DeepEqual(got, def) {
		t.Errorf("got %+v, error %v; want %+v", got, err, def)
	}
	if o.Int("depth") != 5 || o.Duration("window") != time.Hour || o.Size("memory") != 100 || o.String("which") != "first" ||
		o.Bool("enabled") || len(o.List("many")) != 2 {
		t.Error("the getters disagree with Decode")
	}
}

func FuzzParseOption(f *testing.F) {
	for _, s := range []string{"1", "1h", "9P", "a,b", "yes", "-9223372036854775808"} {
		f.Add(s, "1 to 9", "minutes")
	}
	f.Fuzz(func(t *testing.T, value, allowed, unit string) {
		for _, typ := range []string{typeInt, typeBool, typeString, typeDuration, typeSize, typeList, "nosuch"} {
			_, _ = parse(&pluginv1.Option{Name: "x", Type: typ, Allowed: allowed, Unit: unit}, value)
		}
	})
}
