package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/core/sim"
)

// readFaults reads --faults: parameters of random ones, or a file.
func readFaults(f *flags) (*sim.Faults, error) {
	switch {
	case f.faults == "":
		return nil, nil
	case !strings.Contains(f.faults, "="):
		file, err := os.Open(f.faults)
		if err != nil {
			return nil, fmt.Errorf("--faults: %w", err)
		}
		defer file.Close() //nolint:errcheck // only reads
		list, err := sim.ReadFaults(file)
		if err != nil {
			return nil, fmt.Errorf("--faults %s: %w", f.faults, err)
		}
		return &sim.Faults{List: list}, nil
	}
	out := &sim.Faults{Seed: f.seed}
	for o := range strings.SplitSeq(f.faults, ",") {
		key, value, _ := strings.Cut(o, "=")
		var err error
		switch key {
		case "mtbf":
			out.MTBF, err = meanTime(value)
		case "mttr":
			out.MTTR, err = meanTime(value)
		case "requeue":
			if value != "yes" && value != "no" {
				err = fmt.Errorf("%q is neither yes nor no", value)
			}
			out.Keep = value == "no"
		default:
			err = fmt.Errorf("it is not known; mtbf, mttr and requeue are")
		}
		if err != nil {
			return nil, fmt.Errorf("--faults: %s: %w", key, err)
		}
	}
	if out.MTBF == 0 || out.MTTR == 0 {
		return nil, fmt.Errorf("--faults %s: mtbf=TIME and mttr=TIME are wanted", f.faults)
	}
	return out, nil
}

// meanTime reads a duration as Go writes it, or seconds.
func meanTime(s string) (time.Duration, error) {
	if n, err := strconv.ParseUint(s, 10, 32); err == nil && n > 0 {
		return time.Duration(n) * time.Second, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= time.Second {
		return d, nil
	}
	return 0, fmt.Errorf("%q is not a time of at least 1 s, as 3600 or 720h", s)
}
