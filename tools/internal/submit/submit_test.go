package submit

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestTasksPerNode(t *testing.T) {
	tests := []struct {
		cpus                []int
		tasks, per, perNode int
		want                []int
	}{
		{[]int{2, 1}, 3, 1, 0, []int{2, 1}},
		{[]int{6, 2}, 4, 2, 0, []int{3, 1}},
		{[]int{4, 4}, 2, 1, 0, []int{1, 1}},
		{[]int{1, 1}, 0, 0, 0, []int{1, 1}},
		{[]int{8}, 0, 4, 0, []int{2}},
		{[]int{4, 4}, 4, 1, 2, []int{2, 2}},
	}
	for _, tt := range tests {
		if got := TasksPerNode(tt.cpus, tt.tasks, tt.per, tt.perNode); !slices.Equal(got, tt.want) {
			t.Errorf("%+v: got %v", tt, got)
		}
	}
}

// Every task has a node, and no node is without one when there are enough.
func TestTasksPerNodeAddsUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cpus := rapid.SliceOfN(rapid.IntRange(1, 64), 1, 20).Draw(t, "cpus")
		tasks := rapid.IntRange(len(cpus), 2000).Draw(t, "tasks")
		sum := 0
		for _, n := range TasksPerNode(cpus, tasks, rapid.IntRange(0, 4).Draw(t, "per"), 0) {
			if n < 1 {
				t.Fatalf("a node without a task")
			}
			sum += n
		}
		if sum != tasks {
			t.Fatalf("%d of %d tasks", sum, tasks)
		}
	})
}
