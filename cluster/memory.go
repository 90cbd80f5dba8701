package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// memoryMost is what a cluster and all that runs in it may take of its machine.
const memoryMost = 8 << 30

// memory is the memory that the agents and what they started hold, in bytes: the
// sum of their proportional set sizes, in which a page that n processes share
// counts for one nth in each (proc(5), smaps_rollup).
func memory() (bytes int64, processes int) {
	for _, pid := range tasks() {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			continue // it has ended meanwhile
		}
		bytes += proportional(text)
		processes++
	}
	return bytes, processes
}

// proportional reads the proportional set size, in bytes, out of an smaps_rollup.
func proportional(text []byte) int64 {
	for line := range bytes.Lines(text) {
		if fields := bytes.Fields(line); len(fields) == 3 && string(fields[0]) == "Pss:" {
			kilobytes, _ := strconv.ParseInt(string(fields[1]), 10, 64) // the kernel writes a number
			return kilobytes << 10
		}
	}
	return 0
}
