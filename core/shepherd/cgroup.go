package shepherd

import (
	"bytes"
	"os"
	"strconv"
	"strings"
)

// makeCgroups makes the step's cgroups and writes their settings.
func (s *shepherd) makeCgroups() error {
	for _, cg := range s.spec.Cgroups {
		if err := os.MkdirAll(cg.Dir, 0o755); err != nil {
			return err
		}
		for _, v := range cg.Values {
			if err := os.WriteFile(cg.Dir+"/"+v.File, []byte(v.Value), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeCgroups removes them; nothing is left in them.
func (s *shepherd) removeCgroups() {
	for i := len(s.spec.Cgroups) - 1; i >= 0; i-- {
		if err := os.Remove(s.spec.Cgroups[i].Dir); err != nil {
			logf("removing a cgroup: " + err.Error())
		}
	}
}

// oomKilled reports whether the kernel killed a process of the step for want
// of memory.
func (s *shepherd) oomKilled() bool {
	for _, cg := range s.spec.Cgroups {
		if cg.OOM == "" {
			continue
		}
		b, err := os.ReadFile(cg.Dir + "/" + cg.OOM)
		if err != nil {
			continue
		}
		for line := range bytes.Lines(b) {
			if n, ok := strings.CutPrefix(string(bytes.TrimSpace(line)), "oom_kill "); ok {
				count, err := strconv.Atoi(n)
				return err == nil && count > 0
			}
		}
	}
	return false
}
