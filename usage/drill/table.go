package main

import (
	"fmt"
	"io"
	"time"
)

// table is what the drill prints at its end.
type table struct {
	heard           heard
	killed          killed
	objects         int
	audited         audited
	fates           [fates]int
	started, loaded time.Time
	took            time.Duration
}

// print prints a line for each figure.
func (t table) print(say io.Writer, e evidence, v verdict) {
	line := func(name string, value any, note string, of ...any) {
		fmt.Fprintf(say, "%-36s %12v   %s\n", name, value, fmt.Sprintf(note, of...))
	}
	requests := 0
	for _, count := range t.fates {
		requests += count
	}
	failed := requests - t.fates[passed]
	fmt.Fprintln(say)
	line("calls sent", len(e.answered)+len(e.refused)+e.unknown, "in %.0f s", t.loaded.Sub(t.started).Seconds())
	line("  answered", len(e.answered), "")
	line("  refused, and not to be recorded", len(e.refused), "")
	line("  unknown: the gateway died first", e.unknown, "")
	line("kills", t.killed.gateways+t.killed.workers, "%d of gateways, %d of workers", t.killed.gateways, t.killed.workers)
	line("requests to the store", requests, "")
	line("  failed", failed, "%.1f %%: %d answered 500 or 503, %d cut off before, %d after they were done", 100*float64(failed)/float64(max(requests, 1)),
		t.fates[refused], t.fates[cutBefore], t.fates[cutAfter])
	line("records stored", len(e.records), "of %d calls, in %d objects", v.recorded, t.objects)
	line("  duplicates", v.duplicates, "")
	line("  whose answer nobody got", v.unheard, "of the %d unknown", e.unknown)
	line("lost", len(v.lost), "answered, and not stored")
	line("doubled", len(v.doubled), "stored more than once")
	line("billed", e.bills.Calls, "%d on invoices", e.invoices.Calls)
	line("  CPU billed, less what was told", v.cpu.Nanoseconds(), "ns, of %.6f s", time.Duration(e.bills.CPU).Seconds())
	line("unshipped", e.left, "segments")
	line("reconciliation: differences", len(t.audited.findings), "%d answered + %d interrupted by kills = %d recorded, %d stored, %d billed",
		t.audited.answered, t.audited.interrupted, t.audited.recorded, t.audited.stored, t.audited.billed)
	for _, finding := range t.audited.findings {
		fmt.Fprintf(say, "  %s\n", finding)
	}
	if t.heard.first != nil {
		fmt.Fprintf(say, "one of the refused was told: %v\n", t.heard.first)
	}
	line("took", fmt.Sprintf("%.0f s", t.took.Seconds()), "in all")
}
