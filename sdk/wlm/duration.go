package wlm

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

const (
	secondsPerMinute = 60
	secondsPerHour   = 60 * secondsPerMinute
	secondsPerDay    = 24 * secondsPerHour
)

// UnlimitedSeconds is what [ParseSeconds] returns for a duration without end.
const UnlimitedSeconds uint32 = math.MaxUint32

// ParseMinutes reads a time limit as --time takes it: minutes,
// minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes,
// days-hours:minutes:seconds, or -1, INFINITE, UNLIMITED in any case. Seconds
// round up. A limit of zero means no limit and gives [Unlimited].
func ParseMinutes(s string) (Minutes, error) {
	sec, unlimited, err := parseDuration("wlm.ParseMinutes", s)
	if err != nil {
		return 0, err
	}
	m := (sec + secondsPerMinute - 1) / secondsPerMinute
	if unlimited || m == 0 {
		return Unlimited, nil
	}
	if m >= int64(Unset) {
		return 0, errs.Newf("wlm.ParseMinutes", errs.Invalid, "time %q is too long, use UNLIMITED", s)
	}
	return Minutes(m), nil
}

// ParseSeconds reads the forms of [ParseMinutes] and gives seconds, a plain
// number still being minutes; [UnlimitedSeconds] for no end. Zero stays zero.
func ParseSeconds(s string) (uint32, error) {
	sec, unlimited, err := parseDuration("wlm.ParseSeconds", s)
	switch {
	case err != nil:
		return 0, err
	case unlimited:
		return UnlimitedSeconds, nil
	case sec >= int64(Unset):
		return 0, errs.Newf("wlm.ParseSeconds", errs.Invalid, "time %q is too long, use UNLIMITED", s)
	}
	return uint32(sec), nil
}

func parseDuration(op, s string) (sec int64, unlimited bool, err error) {
	switch strings.ToUpper(s) {
	case "-1", "INFINITE", "UNLIMITED":
		return 0, true, nil
	}
	bad := errs.Newf(op, errs.Invalid, "invalid time %q: use minutes, minutes:seconds, hours:minutes:seconds, "+
		"days-hours, days-hours:minutes, days-hours:minutes:seconds or UNLIMITED", s)
	day, clock, dashed := strings.Cut(s, "-")
	units := []int64{secondsPerMinute, 1}
	if dashed {
		units = []int64{secondsPerHour, secondsPerMinute, 1}
		if day == "" { // Slurm takes -5 for 0-5
			day = "0"
		}
		n, ok := digitsOnly(day)
		if !ok {
			return 0, false, bad
		}
		sec = n * secondsPerDay
	} else {
		clock = s
	}
	fields := strings.Split(clock, ":")
	switch {
	case len(fields) > 3:
		return 0, false, bad
	case len(fields) == 3:
		units = []int64{secondsPerHour, secondsPerMinute, 1}
	}
	for i, f := range fields {
		n, ok := digitsOnly(f)
		if !ok {
			return 0, false, bad
		}
		sec += n * units[i]
	}
	return sec, false, nil
}

// digitsOnly reads a decimal number below 2^32, without a sign.
func digitsOnly(s string) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return int64(n), err == nil
}

// FormatElapsed prints seconds as [days-]HH:MM:SS, as sacct and scontrol do;
// a negative duration is INVALID.
func FormatElapsed(seconds int64) string {
	if seconds < 0 {
		return "INVALID"
	}
	d, h, m, s := clock(seconds)
	if d > 0 {
		return fmt.Sprintf("%d-%02d:%02d:%02d", d, h, m, s)
	}
	return fmt.Sprintf("%02d:%02d:%02d", h, m, s)
}

// FormatShort prints seconds as squeue does: M:SS, H:MM:SS or D-HH:MM:SS.
func FormatShort(seconds int64) string {
	if seconds < 0 {
		return "INVALID"
	}
	d, h, m, s := clock(seconds)
	switch {
	case d > 0:
		return fmt.Sprintf("%d-%02d:%02d:%02d", d, h, m, s)
	case h > 0:
		return fmt.Sprintf("%d:%02d:%02d", h, m, s)
	}
	return fmt.Sprintf("%d:%02d", m, s)
}

func clock(seconds int64) (d, h, m, s int64) {
	return seconds / secondsPerDay, seconds / secondsPerHour % 24, seconds / secondsPerMinute % 60, seconds % 60
}

// FormatMinutes prints a time limit as scontrol and sacct do: [days-]HH:MM:SS,
// UNLIMITED, or Partition_Limit when none is set.
func FormatMinutes(m Minutes) string {
	switch m {
	case 0:
		return "Partition_Limit"
	case Unlimited:
		return "UNLIMITED"
	}
	return FormatElapsed(int64(m) * secondsPerMinute)
}

// FormatMinutesShort prints a time limit as squeue does: M:SS and longer,
// UNLIMITED, or NOT_SET.
func FormatMinutesShort(m Minutes) string {
	switch m {
	case 0:
		return "NOT_SET"
	case Unlimited:
		return "UNLIMITED"
	}
	return FormatShort(int64(m) * secondsPerMinute)
}

// FormatMinutesInfinite prints a partition's limit as sinfo does: M:SS and
// longer, infinite, or n/a when none is set.
func FormatMinutesInfinite(m Minutes) string {
	switch m {
	case 0:
		return "n/a"
	case Unlimited:
		return "infinite"
	}
	return FormatShort(int64(m) * secondsPerMinute)
}
