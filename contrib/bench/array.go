package main

import (
	"strings"
	"time"
)

// millionTasks submits an array of a million held tasks, looks at it and cancels
// it, half of it first.
func millionTasks(b *bench, c *cluster) {
	const tasks, half = "0-999999", "[250000-749999]"
	pid := c.pid("ctld")
	var submit, list, part, whole []time.Duration
	var grew []float64
	for range b.runs {
		before, _ := ownMemory(pid)
		begin := time.Now()
		id := strings.TrimSpace(c.run("sbatch", "--parsable", "-H", "-o", "/dev/null", "--array="+tasks, "--wrap", "true"))
		submit = append(submit, time.Since(begin))
		after, _ := ownMemory(pid)
		grew = append(grew, after-before)
		list = append(list, c.time("squeue", "-j", id))
		part = append(part, c.time("scancel", id+"_"+half))
		whole = append(whole, c.time("scancel", id))
	}
	b.reportTimes("array.million", submit)
	b.reportTimes("array.squeue", list)
	b.reportTimes("array.cancel_half", part)
	b.reportTimes("array.cancel", whole)
	b.report("array.memory", "MiB", "", grew...)
}
