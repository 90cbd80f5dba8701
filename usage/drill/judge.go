package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"lightcone"
)

// spent is what one call used, by its answer or by a record of it.
type spent struct {
	CPU               time.Duration // whole microseconds
	BytesIn, BytesOut int64
}

// record is a record of a call as it lies in the bucket.
type record struct {
	call lightcone.CallID
	used spent
}

// sums are what bills and invoices say of many calls together.
type sums struct {
	Calls    int64 `json:"calls"`
	CPU      int64 `json:"cpu_ns"`
	BytesIn  int64 `json:"bytes_in"`
	BytesOut int64 `json:"bytes_out"`
}

func (s *sums) add(more sums) {
	s.Calls += more.Calls
	s.CPU += more.CPU
	s.BytesIn += more.BytesIn
	s.BytesOut += more.BytesOut
}

// evidence is what is known when all has come to rest.
type evidence struct {
	answered map[lightcone.CallID]spent // calls whose answer says that the function saw them: as it tells what they used
	refused  []lightcone.CallID         // calls that the platform's answer says are nobody's to pay
	unknown  int                        // calls whose gateway died before their answer: recorded or not
	records  []record                   // all that are in the bucket
	bills    sums                       // of all hours
	invoices sums                       // of all months, their last revisions
	left     int                        // segments that are still on the gateways' disks
	audited  audited                    // what the reconciliation counts
	audit    []string                   // what it names and nothing explains
}

// verdict is what the evidence comes to.
type verdict struct {
	recorded   int                // calls of which there is a record
	duplicates int                // records beyond a call's first
	unheard    int                // calls recorded whose answer nobody got
	lost       []lightcone.CallID // answered, and not recorded
	doubled    []lightcone.CallID // with more records than one
	different  []lightcone.CallID // recorded otherwise than answered
	wronged    []lightcone.CallID // refused, and recorded all the same
	cpu        time.Duration      // billed, less what all calls that are recorded used: those that were answered by their answers
	err        error              // names every fault; nil = nothing lost, nothing doubled
}

// judge compares what clients heard with what is stored and what was billed. It is
// pure.
func judge(e evidence) verdict {
	v := verdict{}
	counts := make(map[lightcone.CallID]int)
	var want sums
	for _, r := range e.records {
		if counts[r.call]++; counts[r.call] > 1 {
			v.duplicates++
			if counts[r.call] == 2 {
				v.doubled = append(v.doubled, r.call)
			}
			continue
		}
		v.recorded++
		used, heard := e.answered[r.call]
		switch {
		case !heard:
			v.unheard++
			used = r.used
		case used != r.used:
			v.different = append(v.different, r.call)
		}
		want.add(sums{Calls: 1, CPU: int64(used.CPU), BytesIn: used.BytesIn, BytesOut: used.BytesOut})
	}
	for call := range e.answered {
		if counts[call] == 0 {
			v.lost = append(v.lost, call)
		}
	}
	for _, call := range e.refused {
		if counts[call] > 0 {
			v.wronged = append(v.wronged, call)
		}
	}
	v.cpu = time.Duration(e.bills.CPU - want.CPU)

	var faults []error
	for _, fault := range []struct {
		what  string
		calls []lightcone.CallID
	}{
		{"answered and lost", v.lost}, {"recorded more than once", v.doubled},
		{"recorded otherwise than their answers say", v.different}, {"recorded though they were refused", v.wronged},
	} {
		if len(fault.calls) > 0 {
			slices.SortFunc(fault.calls, func(a, b lightcone.CallID) int { return strings.Compare(a.String(), b.String()) })
			faults = append(faults, fmt.Errorf("%d calls %s: %v", len(fault.calls), fault.what, fault.calls[:min(len(fault.calls), 10)]))
		}
	}
	if over := v.unheard - e.unknown - len(v.wronged); over > 0 {
		faults = append(faults, fmt.Errorf("%d calls recorded more than anybody made: nobody got the answers of %d, and %d are unknown", over, v.unheard, e.unknown))
	}
	if e.bills != want {
		faults = append(faults, fmt.Errorf("billed %+v, and the calls come to %+v", e.bills, want))
	}
	if e.invoices != want {
		faults = append(faults, fmt.Errorf("invoiced %+v, and the calls come to %+v", e.invoices, want))
	}
	if e.left > 0 {
		faults = append(faults, fmt.Errorf("%d segments are not in the bucket", e.left))
	}
	if a := e.audited; a.answered+a.interrupted < a.recorded || a.recorded != int64(len(e.records)) || a.stored != int64(len(e.records)) || a.billed != want.Calls {
		faults = append(faults, fmt.Errorf("the reconciliation counts otherwise: %+v", a))
	}
	for _, line := range e.audit {
		faults = append(faults, fmt.Errorf("the reconciliation says: %s", line))
	}
	if len(e.answered) == 0 {
		faults = append(faults, errors.New("no call was answered: a drill without calls shows nothing"))
	}
	v.err = errors.Join(faults...)
	return v
}

// tornLine is how the reconciliation names records that were half written.
var tornLine = regexp.MustCompile(`^node \S+: sequence \d+: (\d+) records were damaged on the node's disk, and are lost$`)

// unexplained are the differences that the reconciliation names, and that no kill
// explains. A kill explains one torn record: the one that was being written, whose
// call was not answered.
func unexplained(findings []string, kills int) []string {
	var left []string
	for _, finding := range findings {
		if said := tornLine.FindStringSubmatch(finding); said != nil {
			if torn, err := strconv.Atoi(said[1]); err == nil && torn <= kills {
				kills -= torn
				continue
			}
		}
		left = append(left, finding)
	}
	return left
}
