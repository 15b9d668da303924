package wlm

import (
	"testing"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

func TestParseSignal(t *testing.T) {
	tests := []struct {
		in   string
		want int
	}{{"SIGKILL", 9}, {"kill", 9}, {"9", 9}, {"USR1", 10}, {"sigusr2", 12}, {"Term", 15}, {"64", 64}, {"XCPU", 24}}
	for _, tt := range tests {
		if got, err := ParseSignal(tt.in); err != nil || got != tt.want {
			t.Errorf("%s: got %d, %v", tt.in, got, err)
		}
	}
	for _, s := range []string{"", "SIG", "FOO", "0", "65", "-9", "9x", "SIGSIGKILL"} {
		if n, err := ParseSignal(s); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%q: got %d, %v", s, n, err)
		}
	}
	names := []struct {
		n          int
		name, text string
	}{{9, "SIGKILL", "Killed"}, {11, "SIGSEGV", "Segmentation fault"}, {15, "SIGTERM", "Terminated"}, {40, "40", "Real-time signal 6"},
		{0, "0", "Unknown signal 0"}, {33, "33", "Unknown signal 33"}}
	for _, tt := range names {
		if name, text := SignalName(tt.n), SignalText(tt.n); name != tt.name || text != tt.text {
			t.Errorf("%d is %s, %s", tt.n, name, text)
		}
	}
}

func TestParseJobSignal(t *testing.T) {
	tests := []struct {
		in    string
		want  JobSignal
		print string
	}{
		{"B:USR1@60", JobSignal{Signal: 10, Seconds: 60, Batch: true}, "B:USR1@60"},
		{"10", JobSignal{Signal: 10, Seconds: 60}, "USR1@60"},
		{"R:TERM@0", JobSignal{Signal: 15, Reservation: true}, "R:TERM@0"},
		{"BR:sigint@65535", JobSignal{Signal: 2, Seconds: 65535, Batch: true, Reservation: true}, "RB:INT@65535"},
	}
	for _, tt := range tests {
		got, err := ParseJobSignal(tt.in)
		if err != nil || got != tt.want || got.String() != tt.print {
			t.Errorf("%s: got %+v (%s), %v", tt.in, got, got, err)
		}
	}
	for _, s := range []string{"", ":USR1", "X:USR1", "B:", "USR1@", "USR1@65536", "USR1@-1", "FOO", "B:USR1:2"} {
		if _, err := ParseJobSignal(s); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%q: error %v", s, err)
		}
	}
}

func FuzzParseJobSignal(f *testing.F) {
	f.Add("RB:USR1@60")
	f.Fuzz(func(t *testing.T, s string) {
		j, err := ParseJobSignal(s)
		if err != nil {
			return
		}
		if again, err := ParseJobSignal(j.String()); err != nil || again != j {
			t.Fatalf("%q is %s, then %s, %v", s, j, again, err)
		}
	})
}
