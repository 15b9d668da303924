// Command pyplugin packs a plugin that is written in Python into one program:
// pyplugin OUTPUT MAIN.py. The Makefile runs it for each plugins/*/*/main.py.
package main

import (
	"fmt"
	"os"

	"github.com/sluice-hpc/sluice/sdk/python"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: pyplugin OUTPUT MAIN.py")
		os.Exit(2)
	}
	if err := python.PackFile(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "pyplugin:", err)
		os.Exit(1)
	}
}
