package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestDetect(t *testing.T) {
	root := t.TempDir()
	write := func(path, text string) {
		p := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// Two sockets of three cores with two threads, and one CPU that is off.
	for cpu := range 12 {
		dir := fmt.Sprintf("sys/devices/system/cpu/cpu%d/", cpu)
		write(dir+"topology/physical_package_id", fmt.Sprint(cpu/3%2))
		write(dir+"topology/core_id", fmt.Sprint(cpu%3))
	}
	write("sys/devices/system/cpu/cpu12/online", "0")
	write("proc/meminfo", "MemTotal:       16384000 kB\nMemFree:  1024 kB")
	h := detect(root, "/nonexistent")
	want := hardware{cpus: 12, boards: 1, sockets: 2, cores: 3, threads: 2, memory: 16000}
	if h != want {
		t.Errorf("got %+v, want %+v", h, want)
	}
	line := "NodeName=vm CPUs=12 Boards=1 SocketsPerBoard=2 CoresPerSocket=3 ThreadsPerCore=2 RealMemory=16000\nUpTime=1-02:03:04\n"
	if got := confLine(h, "vm", 26*time.Hour+3*time.Minute+4*time.Second); got != line {
		t.Errorf("got %q, want %q", got, line)
	}
}
