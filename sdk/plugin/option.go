package plugin

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/plugin/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Option declares an option of a plugin. The host refuses values that do not
// fit before the plugin sees them, and the manual pages list it.
type Option struct {
	Name    string
	Type    string // int, bool, string, duration, size or list
	Unit    string // of a duration without one: ms, seconds (default), minutes, hours, days; else for people
	Default string
	Doc     string // one line
	Allowed string // checked: "1 to 100", or words as in "first, last or none"
}

// The types of options, as authors' structs write them: integers are int, a
// time.Duration is a duration, a wlm.MiB is a size, a []string is a list.
const (
	typeInt      = "int"
	typeBool     = "bool"
	typeString   = "string"
	typeDuration = "duration"
	typeSize     = "size"
	typeList     = "list"
)

// Options are the values in force: those of the configuration, else defaults.
type Options struct {
	cluster string
	values  map[string]any
}

// Cluster is the cluster's name.
func (o Options) Cluster() string { return o.cluster }

// Int returns an option of type int; it panics when none of that type was declared.
func (o Options) Int(name string) int64 { return optionOf[int64](o, name) }

// Bool returns an option of type bool; see Int.
func (o Options) Bool(name string) bool { return optionOf[bool](o, name) }

// String returns an option of type string; see Int.
func (o Options) String(name string) string { return optionOf[string](o, name) }

// Duration returns an option of type duration; see Int.
func (o Options) Duration(name string) time.Duration { return optionOf[time.Duration](o, name) }

// Size returns an option of type size; see Int.
func (o Options) Size(name string) wlm.MiB { return optionOf[wlm.MiB](o, name) }

// List returns an option of type list; see Int.
func (o Options) List(name string) []string { return optionOf[[]string](o, name) }

func optionOf[T any](o Options, name string) T {
	v, ok := o.values[name].(T)
	if !ok {
		panic(fmt.Sprintf("plugin: no option %q of type %T is declared", name, v))
	}
	return v
}

// OptionsOf reads declarations from a struct. Fields carry the tag `option` with
// the name, and perhaps unit, doc and allowed; what the struct holds is the
// default:
//
//	var config = struct {
//		Depth int `option:"depth" doc:"jobs to try in a pass" allowed:"1 to 100000"`
//	}{Depth: 500}
//
// It panics on a field of another type than Option.Type names.
func OptionsOf(into any) []Option {
	var list []Option
	eachField(into, func(f reflect.StructField, v reflect.Value) {
		list = append(list, Option{Name: f.Tag.Get("option"), Type: typeOf(f), Unit: f.Tag.Get("unit"), Default: print(v),
			Doc: f.Tag.Get("doc"), Allowed: f.Tag.Get("allowed")})
	})
	return list
}

// Decode sets the fields of a struct that was declared with OptionsOf.
func (o Options) Decode(into any) error {
	var err error
	eachField(into, func(f reflect.StructField, v reflect.Value) {
		x, ok := o.values[f.Tag.Get("option")]
		if !ok {
			return // declared by hand under another name: keeps what it holds
		}
		r := reflect.ValueOf(x)
		if !r.CanConvert(v.Type()) || r.CanInt() && v.CanInt() && v.OverflowInt(r.Int()) ||
			r.CanInt() && v.CanUint() && (r.Int() < 0 || v.OverflowUint(uint64(r.Int()))) {
			err = errs.Newf("plugin.Decode", errs.Invalid, "option %s: %v does not fit a %v", f.Tag.Get("option"), x, v.Type())
			return
		}
		v.Set(r.Convert(v.Type()))
	})
	return err
}

func eachField(into any, do func(reflect.StructField, reflect.Value)) {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("plugin: options must be a pointer to a struct, not %T", into))
	}
	v = v.Elem()
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.Tag.Get("option") != "" {
			do(f, v.Field(i))
		}
	}
}

func typeOf(f reflect.StructField) string {
	switch f.Type {
	case reflect.TypeFor[time.Duration]():
		return typeDuration
	case reflect.TypeFor[wlm.MiB]():
		return typeSize
	case reflect.TypeFor[[]string]():
		return typeList
	}
	switch f.Type.Kind() {
	case reflect.Bool:
		return typeBool
	case reflect.String:
		return typeString
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return typeInt
	}
	panic(fmt.Sprintf("plugin: field %s: %v is no type of an option", f.Name, f.Type))
}

// print is the text of a default, as parse reads it.
func print(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		return x.String()
	case wlm.MiB:
		return strconv.FormatUint(uint64(x), 10) + "M"
	case []string:
		return strings.Join(x, ",")
	case bool:
		if x {
			return "yes"
		}
		return "no"
	}
	return fmt.Sprint(v.Interface())
}

func optionsToWire(list []Option) []*pluginv1.Option {
	var out []*pluginv1.Option
	for _, o := range list {
		if o.Type == "" {
			o.Type = typeString
		}
		out = append(out, &pluginv1.Option{Name: o.Name, Type: o.Type, Unit: o.Unit, Default: o.Default, Doc: o.Doc, Allowed: o.Allowed})
	}
	return out
}

// CheckOptions checks values against a manifest's declarations and returns one
// error with a line for each that does not fit, which names its origin.
func CheckOptions(declared []*pluginv1.Option, values []*pluginv1.OptionValue) error {
	_, err := parseOptions(declared, values)
	return err
}

func parseOptions(declared []*pluginv1.Option, values []*pluginv1.OptionValue) (Options, error) {
	o := Options{values: map[string]any{}}
	var lines []string
	byName := map[string]*pluginv1.Option{}
	for _, d := range declared {
		byName[strings.ToLower(d.GetName())] = d
		x, err := parse(d, d.GetDefault())
		if err != nil && d.GetDefault() != "" {
			lines = append(lines, fmt.Sprintf("default of option %s: %v", d.GetName(), err))
		}
		o.values[d.GetName()] = x
	}
	for _, v := range values {
		where := ""
		if v.GetOrigin() != "" {
			where = v.GetOrigin() + ": "
		}
		d, ok := byName[strings.ToLower(v.GetName())]
		if !ok {
			lines = append(lines, fmt.Sprintf("%sunknown option %s, %s", where, v.GetName(), names(declared)))
			continue
		}
		x, err := parse(d, v.GetValue())
		if err != nil {
			lines = append(lines, fmt.Sprintf("%soption %s: %v", where, d.GetName(), err))
			continue
		}
		o.values[d.GetName()] = x
	}
	if len(lines) > 0 {
		return o, errs.Coded("plugin.Options", errs.InvalidOption, lines...)
	}
	return o, nil
}

func names(declared []*pluginv1.Option) string {
	if len(declared) == 0 {
		return "this plugin has none"
	}
	var list []string
	for _, d := range declared {
		list = append(list, d.GetName())
	}
	return "allowed are " + strings.Join(list, ", ")
}

// parse reads a value. On an error it returns the zero of the option's type.
func parse(d *pluginv1.Option, s string) (any, error) {
	s = strings.TrimSpace(s)
	switch d.GetType() {
	case typeInt:
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return int64(0), fmt.Errorf("%q is not a whole number%s", s, allowed(d))
		}
		return n, inRange(d, s, float64(n), func(s string) (float64, error) { return strconv.ParseFloat(s, 64) })
	case typeBool:
		switch strings.ToLower(s) {
		case "yes", "true", "1", "on":
			return true, nil
		case "no", "false", "0", "off", "":
			return false, nil
		}
		return false, fmt.Errorf("%q is neither yes nor no", s)
	case typeDuration:
		t, err := parseDuration(s, d.GetUnit())
		if err != nil {
			return time.Duration(0), fmt.Errorf("%q is not a time such as 90s, 5m or 1h30m%s", s, allowed(d))
		}
		return t, inRange(d, s, float64(t), func(s string) (float64, error) {
			t, err := parseDuration(s, d.GetUnit())
			return float64(t), err
		})
	case typeSize:
		n, err := parseSize(s)
		if err != nil {
			return wlm.MiB(0), fmt.Errorf("%q is not a size such as 512M or 4G%s", s, allowed(d))
		}
		return n, inRange(d, s, float64(n), func(s string) (float64, error) {
			n, err := parseSize(s)
			return float64(n), err
		})
	case typeList:
		list := []string{}
		for w := range strings.SplitSeq(s, ",") {
			if w = strings.TrimSpace(w); w != "" {
				if err := oneOf(d, w); err != nil {
					return []string{}, err
				}
				list = append(list, w)
			}
		}
		return list, nil
	case typeString:
		return s, oneOf(d, s)
	}
	return nil, fmt.Errorf("the plugin declares the type %q, which is not known", d.GetType())
}

func allowed(d *pluginv1.Option) string {
	if d.GetAllowed() == "" {
		return ""
	}
	return ", allowed: " + d.GetAllowed()
}

// inRange checks "LOW to HIGH"; other texts of Allowed are for people.
func inRange(d *pluginv1.Option, text string, x float64, read func(string) (float64, error)) error {
	low, high, ok := strings.Cut(d.GetAllowed(), " to ")
	if !ok {
		return nil
	}
	a, err1 := read(low)
	b, err2 := read(high)
	if err1 == nil && err2 == nil && (x < a || x > b) {
		return fmt.Errorf("%s is out of range, allowed: %s", text, d.GetAllowed())
	}
	return nil
}

// oneOf checks "a, b or c"; the empty string is always allowed.
func oneOf(d *pluginv1.Option, s string) error {
	head, last, ok := strings.Cut(d.GetAllowed(), " or ")
	if !ok || s == "" {
		return nil
	}
	for w := range strings.SplitSeq(head+","+last, ",") {
		if strings.EqualFold(strings.TrimSpace(w), s) {
			return nil
		}
	}
	return fmt.Errorf("%q is not allowed, allowed: %s", s, d.GetAllowed())
}

var durationUnits = map[string]time.Duration{"": time.Second, "ms": time.Millisecond, "milliseconds": time.Millisecond,
	"s": time.Second, "seconds": time.Second, "minutes": time.Minute, "hours": time.Hour, "days": 24 * time.Hour}

func parseDuration(s, unit string) (time.Duration, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		u, ok := durationUnits[unit]
		t := time.Duration(n) * u
		if !ok || n != 0 && t/time.Duration(n) != u {
			return 0, strconv.ErrRange
		}
		return t, nil
	}
	return time.ParseDuration(s)
}

func parseSize(s string) (wlm.MiB, error) {
	shift := map[byte]int{'M': 0, 'G': 10, 'T': 20, 'P': 30}
	if s == "" {
		return 0, strconv.ErrSyntax
	}
	digits, by := s, 0
	if n, ok := shift[s[len(s)-1]&^0x20]; ok {
		digits, by = s[:len(s)-1], n
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n<<by>>by != n {
		return 0, strconv.ErrSyntax
	}
	return wlm.MiB(n << by), nil
}
