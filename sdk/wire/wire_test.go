package wire

import (
	"reflect"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-hpc/sluice/sdk/proto/wlm/v1"
)

// fill gives every field of v, however deep, a value of its own.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		v.SetString(string(rune('a' + *n%26)))
	case reflect.Int32, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n % 200))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), n)
		fill(v.Index(1), n)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	}
}

func TestNothingIsLostOnTheWire(t *testing.T) {
	n := 0
	var job wlm.Job
	fill(reflect.ValueOf(&job).Elem(), &n)
	b, err := proto.Marshal(JobToWire(&job))
	if err != nil {
		t.Fatal(err)
	}
	var m wlmv1.Job
	if err := proto.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	if got := JobOfWire(&m); !reflect.DeepEqual(got, &job) {
		t.Errorf("job changed on the wire:\n got %+v\nwant %+v", got, &job)
	}
	var node wlm.Node
	fill(reflect.ValueOf(&node).Elem(), &n)
	if got := NodeOfWire(NodeToWire(&node)); !reflect.DeepEqual(got, &node) {
		t.Errorf("node changed: %+v", got)
	}
	var part wlm.Partition
	fill(reflect.ValueOf(&part).Elem(), &n)
	if got := PartitionOfWire(PartitionToWire(&part)); !reflect.DeepEqual(got, &part) {
		t.Errorf("partition changed: %+v", got)
	}
	var step wlm.Step
	fill(reflect.ValueOf(&step).Elem(), &n)
	if got := StepOfWire(StepToWire(&step)); !reflect.DeepEqual(got, &step) {
		t.Errorf("step changed: %+v", got)
	}
}
