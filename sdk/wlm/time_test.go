package wlm

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

// The forms and their meaning are those of sbatch(1), option --time.
func TestParseMinutes(t *testing.T) {
	const day = 24 * 60
	tests := []struct {
		in   string
		want Minutes
		kind errs.Kind
	}{
		{in: "90", want: 90},
		{in: "1:30", want: 2}, // seconds round up
		{in: "1:00", want: 1},
		{in: "0:01", want: 1},
		{in: "1:30:00", want: 90},
		{in: "2-12", want: 2*day + 12*60},
		{in: "2-12:30", want: 2*day + 12*60 + 30},
		{in: "2-0:0:1", want: 2*day + 1},
		{in: "100:00:00", want: 6000},
		{in: "-5", want: 300}, // observed: accepted
		{in: "unlimited", want: Unlimited},
		{in: "INFINITE", want: Unlimited},
		{in: "-1", want: Unlimited},
		{in: "0", want: Unlimited}, // "requests that no time limit be imposed"
		{in: "0:0", want: Unlimited},
		{in: "", kind: errs.Invalid},
		{in: "foo", kind: errs.Invalid},
		{in: "1:2:3:4", kind: errs.Invalid},
		{in: "1:2-3", kind: errs.Invalid},
		{in: "1-", kind: errs.Invalid},
		{in: "1:", kind: errs.Invalid},
		{in: "1.5", kind: errs.Invalid},
		{in: "+5", kind: errs.Invalid},
		{in: "5m", kind: errs.Invalid},
		{in: "4294967294", kind: errs.Invalid},
		{in: "99999999999999999999", kind: errs.Invalid},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got, err := ParseMinutes(tt.in)
			if errs.KindOf(err) != tt.kind || got != tt.want {
				t.Errorf("got %v, %v; want %v of kind %v", got, err, tt.want, tt.kind)
			}
		})
	}
}

func TestParseSeconds(t *testing.T) {
	tests := []struct {
		in   string
		want uint32
	}{{"1", 60}, {"1:30", 90}, {"0", 0}, {"1-0:0:1", 86401}, {"UNLIMITED", UnlimitedSeconds}}
	for _, tt := range tests {
		if got, err := ParseSeconds(tt.in); err != nil || got != tt.want {
			t.Errorf("%s: got %d, %v; want %d", tt.in, got, err, tt.want)
		}
	}
	if _, err := ParseSeconds("99999-0"); err == nil {
		t.Error("no error for a duration beyond 32 bits")
	}
}

func TestFormatDuration(t *testing.T) {
	tests := []struct {
		sec            int64
		elapsed, short string
	}{
		{0, "00:00:00", "0:00"},
		{8, "00:00:08", "0:08"},
		{586, "00:09:46", "9:46"},
		{600, "00:10:00", "10:00"},
		{3600, "01:00:00", "1:00:00"},
		{86400 + 3661, "1-01:01:01", "1-01:01:01"},
		{-1, "INVALID", "INVALID"},
	}
	for _, tt := range tests {
		if got := FormatElapsed(tt.sec); got != tt.elapsed {
			t.Errorf("%d: elapsed %q, want %q", tt.sec, got, tt.elapsed)
		}
		if got := FormatShort(tt.sec); got != tt.short {
			t.Errorf("%d: short %q, want %q", tt.sec, got, tt.short)
		}
	}
	limits := []struct {
		m                      Minutes
		scontrol, squeue, info string
	}{
		{10, "00:10:00", "10:00", "10:00"},
		{1440, "1-00:00:00", "1-00:00:00", "1-00:00:00"},
		{Unlimited, "UNLIMITED", "UNLIMITED", "infinite"},
		{0, "Partition_Limit", "NOT_SET", "n/a"},
	}
	for _, tt := range limits {
		if a, b, c := FormatMinutes(tt.m), FormatMinutesShort(tt.m), FormatMinutesInfinite(tt.m); a != tt.scontrol || b != tt.squeue || c != tt.info {
			t.Errorf("%d: got %q, %q, %q", tt.m, a, b, c)
		}
	}
}

func TestMinutesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := Minutes(rapid.Uint32Range(1, Unset-1).Draw(t, "minutes"))
		for _, s := range []string{FormatMinutes(m), fmt.Sprint(uint32(m))} {
			if got, err := ParseMinutes(s); err != nil || got != m {
				t.Fatalf("%q came back as %d, %v; want %d", s, got, err, m)
			}
		}
	})
}

func TestParseWhen(t *testing.T) {
	zone := time.FixedZone("X", 3600)
	now := time.Date(2026, 11, 23, 17, 16, 52, 0, zone) // a Monday
	tests := []struct {
		in           string
		begin, query string // with timeLayout in zone
	}{
		{"now", "2026-11-23T17:16:52", ""},
		{"now+3600", "2026-11-23T18:16:52", ""},
		{"now+1hour", "2026-11-23T18:16:52", ""},
		{"NOW + 2 hours", "2026-11-23T19:16:52", ""},
		{"now-1week", "2026-11-16T17:16:52", ""},
		{"now+10minutes", "2026-11-23T17:26:52", ""},
		{"now+2days", "2026-11-25T17:16:52", ""},
		{"now+5s", "2026-11-23T17:16:57", ""},
		{"today", "2026-11-23T00:00:00", ""},
		{"tomorrow", "2026-11-24T00:00:00", ""},
		{"tomorrow 10:00", "2026-11-24T10:00:00", ""},
		{"teatime tomorrow", "2026-11-24T16:00:00", ""},
		{"midnight", "2026-11-24T00:00:00", "2026-11-23T00:00:00"},
		{"noon", "2026-11-24T12:00:00", "2026-11-23T12:00:00"},
		{"elevenses", "2026-11-24T11:00:00", "2026-11-23T11:00:00"},
		{"fika", "2026-11-24T15:00:00", "2026-11-23T15:00:00"},
		{"teatime", "2026-11-24T16:00:00", "2026-11-23T16:00:00"},
		{"18:00", "2026-11-23T18:00:00", ""},
		{"16:00", "2026-11-24T16:00:00", "2026-11-23T16:00:00"},
		{"6:05:09 PM", "2026-11-23T18:05:09", ""},
		{"12:30am", "2026-11-24T00:30:00", "2026-11-23T00:30:00"},
		{"12:30pm", "2026-11-24T12:30:00", "2026-11-23T12:30:00"},
		{"2010-01-20T12:34:00", "2010-01-20T12:34:00", ""},
		{"2010-01-20 12:34", "2010-01-20T12:34:00", ""},
		{"2026-12-01", "2026-12-01T00:00:00", ""},
		{"2024-02-29", "2024-02-29T00:00:00", ""},
		{"1231", "2026-12-31T00:00:00", "2025-12-31T00:00:00"},
		{"0131", "2027-01-31T00:00:00", "2026-01-31T00:00:00"},
		{"1123", "2026-11-23T00:00:00", ""},
		{"013127", "2027-01-31T00:00:00", ""},
		{"0131-10:30", "2027-01-31T10:30:00", "2026-01-31T10:30:00"},
		{"12/31", "2026-12-31T00:00:00", "2025-12-31T00:00:00"},
		{"1/31/27", "2027-01-31T00:00:00", ""},
		{"01.31.2027", "2027-01-31T00:00:00", ""},
		{"11/23-18:00", "2026-11-23T18:00:00", "2025-11-23T18:00:00"},
		{"11/23-10:00", "2027-11-23T10:00:00", "2026-11-23T10:00:00"},
		{"uts1795454153", "2026-11-23T18:15:53", ""},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			if tt.query == "" {
				tt.query = tt.begin
			}
			for _, begin := range []bool{true, false} {
				got, err := ParseWhen(tt.in, now, begin)
				want := tt.query
				if begin {
					want = tt.begin
				}
				if s := got.Std().In(zone).Format(timeLayout); err != nil || s != want {
					t.Errorf("begin %v: got %s, %v; want %s", begin, s, err, want)
				}
			}
		})
	}
}

func TestParseWhenRefuses(t *testing.T) {
	tests := []struct {
		in  string
		pos int
	}{
		{"foo", 0}, {"never", 0}, {"2026-13-45", 5}, // observed
		{"", 0}, {"2026-12-45", 8}, {"2026-02-29", 8}, {"2026-12-01foo", 10}, {"2026-12-01T", 10},
		{"2026-12-01T25:00", 11}, {"10:61", 3}, {"10:00 13:00", 6}, {"13:00 pm", 0}, {"now+", 4}, {"now+1fortnight", 5},
		{"now+1 day x", 10}, {"1345", 0}, {"0145", 2}, {"12345", 0}, {"utsx", 0}, {"uts", 3}, {"today tomorrow", 6},
		{"1900-01-01", 0},
	}
	for _, tt := range tests {
		_, err := ParseWhen(tt.in, time.Unix(1795454153, 0).UTC(), true)
		want := fmt.Sprintf("Invalid time specification (pos=%d): %s", tt.pos, tt.in)
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestFormatTime(t *testing.T) {
	now := time.Date(2026, 4, 23, 17, 16, 52, 0, time.UTC)
	at := func(m time.Month, d int) Time { return TimeOf(time.Date(2026, m, d, 9, 8, 7, 0, time.UTC)) }
	tests := []struct {
		t            Time
		format, want string
	}{
		{0, "relative", "N/A"},
		{at(4, 23), "", "2026-04-23T09:08:07"},
		{at(4, 23), "standard", "2026-04-23T09:08:07"},
		{at(4, 23), "relative", "09:08:07"},
		{at(4, 24), "relative", "Tomorr 09:08"},
		{at(4, 22), "relative", "Ystday 09:08"},
		{at(4, 27), "relative", "Mon 09:08"},
		{at(5, 1), "relative", "1 May 09:08"},
		{at(4, 1), "relative", "1 Apr 09:08"},
		{TimeOf(time.Date(2012, 6, 6, 1, 1, 1, 0, time.UTC)), "relative", "6 Jun 2012"},
		{at(4, 1), "%a %T", "Wed 09:08:07"},
		{at(4, 1), "%Y-%m-%d 100%% %e %j %k %l %p", "2026-04-01 100%  1 091  9  9 AM"},
		{at(4, 1), "%C %u %w %V %G %g %s", "20 3 3 14 2026 26 1775034487"},
		{at(4, 1), "%U %W%n%t%q %", "13 13\n\t%q %"},
		{at(4, 5), "%u %U %W %F %D %R %r", "7 14 13 2026-04-05 04/05/26 09:08 09:08:07 AM"},
	}
	for _, tt := range tests {
		if got := FormatTimeAs(tt.t, "N/A", tt.format, now); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.format, got, tt.want)
		}
	}
	t.Setenv("SLURM_TIME_FORMAT", "%H")
	if got := FormatTimeEnv(at(4, 1), "", now); got != "09" {
		t.Errorf("from the environment: %q", got)
	}
	if got := FormatTime(0, "Unknown"); got != "Unknown" {
		t.Errorf("zero is %q", got)
	}
	if got := FormatTime(at(4, 1), ""); got != at(4, 1).Std().Format(timeLayout) {
		t.Errorf("got %q", got)
	}
}

func TestWhenRoundTrip(t *testing.T) {
	now := time.Unix(1795454153, 0)
	rapid.Check(t, func(t *rapid.T) {
		when := Time(rapid.Int64Range(1<<25, 4e9).Draw(t, "t"))
		s := FormatTimeAs(when, "", "", now.UTC())
		if got, err := ParseWhen(s, now.UTC(), true); err != nil || got != when {
			t.Fatalf("%q came back as %d, %v; want %d", s, got, err, when)
		}
	})
}

func FuzzParseMinutes(f *testing.F) {
	for _, s := range []string{"1", "1:2", "1:2:3", "1-2", "1-2:3:4", "-1", "UNLIMITED", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseMinutes(s)
		if err != nil {
			return
		}
		if again, err := ParseMinutes(FormatMinutes(m)); err != nil || again != m {
			t.Fatalf("%q is %d, printed and read again %d, %v", s, m, again, err)
		}
	})
}

func FuzzParseWhen(f *testing.F) {
	for _, s := range []string{"now+1hour", "2026-12-01T10:00:00", "12/31/27 4:00pm", "0131-10:30", "teatime tomorrow", "uts1", "12."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, begin := range []bool{false, true} {
			_, err := ParseWhen(s, time.Unix(1795454153, 0).UTC(), begin)
			if err != nil && !strings.HasPrefix(err.Error(), "Invalid time specification (pos=") {
				t.Fatal(err)
			}
		}
	})
}

func FuzzStrftime(f *testing.F) {
	f.Add("%a %T")
	f.Fuzz(func(t *testing.T, s string) { FormatTimeAs(1, "", s, time.Unix(1, 0).UTC()) })
}
