package bulk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Overview is a job as its shares report it.
type Overview struct {
	Job       string  `json:"job"`
	Of        int     `json:"of"`        // shares that the job was cut into
	Reporting int     `json:"reporting"` // shares that have written progress
	Harvest   float64 `json:"harvest"`   // Reporting / Of: how much of the job the sums below speak of
	Complete  int     `json:"complete"`  // shares with nothing left to do

	Total   int64 `json:"total"`
	Counted bool  `json:"counted"` // Total is whole, as far as the reporting shares go
	Done    int64 `json:"done"`
	Skipped int64 `json:"skipped"`
	Failed  int64 `json:"failed"`
	GivenUp int64 `json:"given_up"`

	BytesIn  int64         `json:"bytes_in"`
	BytesOut int64         `json:"bytes_out"`
	CPU      time.Duration `json:"cpu_ns"`
	Started  time.Time     `json:"started"` // of the first
	Updated  time.Time     `json:"updated"` // of the last

	Shares []Progress `json:"shares"` // those that report, by number
}

// Status adds up what the shares of a job last wrote. ErrNotFound means that none
// has written anything.
func Status(ctx context.Context, out Store, job string) (Overview, error) {
	if err := ValidateJob(job); err != nil {
		return Overview{}, err
	}
	var keys []string
	err := out.List(ctx, jobFolder(job)+"progress-", func(o Object) error {
		if !strings.Contains(o.Key[len(jobFolder(job)):], "/") {
			keys = append(keys, o.Key)
		}
		return nil
	})
	if err != nil {
		return Overview{}, fmt.Errorf("bulk: %w", err)
	}
	var reports []Progress
	for _, key := range keys {
		p, err := readProgress(ctx, out, key)
		if errors.Is(err, ErrNotFound) {
			continue // gone since it was listed
		}
		if err != nil {
			return Overview{}, fmt.Errorf("bulk: %w", err)
		}
		reports = append(reports, p)
	}
	if len(reports) == 0 {
		return Overview{}, fmt.Errorf("bulk: no share of the job %q has reported in this output: %w", job, ErrNotFound)
	}
	return addUp(job, reports), nil
}

// addUp sums the reports of the latest division into shares; there is at least
// one. A job started again with other shares leaves reports of the earlier ones.
func addUp(job string, reports []Progress) Overview {
	latest := slices.MaxFunc(reports, func(a, b Progress) int { return a.Updated.Compare(b.Updated) })
	all := Overview{Job: job, Of: latest.Of, Counted: true, Started: latest.Started, Updated: latest.Updated}
	for _, p := range reports {
		if p.Of != latest.Of {
			continue
		}
		all.Shares = append(all.Shares, p)
		all.Total += p.Total
		all.Done += p.Done
		all.Skipped += p.Skipped
		all.Failed += p.Failed
		all.GivenUp += p.GivenUp
		all.BytesIn += p.BytesIn
		all.BytesOut += p.BytesOut
		all.CPU += p.CPU
		all.Counted = all.Counted && p.Counted
		if !p.Finished.IsZero() {
			all.Complete++
		}
		if p.Started.Before(all.Started) {
			all.Started = p.Started
		}
	}
	slices.SortFunc(all.Shares, func(a, b Progress) int { return cmp.Compare(a.Share, b.Share) })
	all.Reporting = len(all.Shares)
	all.Harvest = float64(all.Reporting) / float64(all.Of)
	return all
}
