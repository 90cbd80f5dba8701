package admission

import (
	"fmt"
	"sync/atomic"
	"time"

	"lightcone"
)

// month is a calendar month in UTC: 12 x year + month, January being 0.
type month int32

func monthOf(at time.Time) month {
	at = at.UTC()
	return month(at.Year()*12 + int(at.Month()) - 1)
}

// begins is the month's first moment.
func (m month) begins() time.Time {
	return time.Date(int(m/12), time.Month(m%12)+1, 1, 0, 0, 0, 0, time.UTC)
}

// String is the month as Region.Exchange wants it, such as 2026-11.
func (m month) String() string { return fmt.Sprintf("%04d-%02d", int(m/12), int(m%12)+1) }

// slack is how far the clock may be set back over the turn of a month without
// the old month beginning again.
const slack = time.Hour

// follow is the month in which a tenant's usage is counted at a moment, if it was
// counted in m before.
func (m month) follow(at time.Time, now month) month {
	if now < m && m.begins().Sub(at) <= slack {
		return m
	}
	return now
}

// calendar remembers the present month, because asking for it costs more than
// admitting a call does.
type calendar struct{ present atomic.Pointer[page] }

type page struct {
	month        month
	first, after int64 // Unix seconds of its first moment and of the next month's
}

func (c *calendar) monthOf(at time.Time) month {
	seconds := at.Unix()
	if p := c.present.Load(); p != nil && seconds >= p.first && seconds < p.after {
		return p.month
	}
	m := monthOf(at)
	c.present.Store(&page{month: m, first: m.begins().Unix(), after: (m + 1).begins().Unix()})
	return m
}

// monthly is what is known of a tenant's month.
type monthly struct {
	own        lightcone.Usage // counted here, and not in the region's total as far as is known
	totalCPU   time.Duration   // the region's, as last learned, and what it has lost
	totalBytes int64
	lostCPU    time.Duration // of what the region had answered once
	lostBytes  int64
	month      month
	learned    bool // the region has answered in this month
}

func (m *monthly) cpu() time.Duration { return m.totalCPU + m.own.CPU }

func (m *monthly) bytes() int64 { return m.totalBytes + bytesOf(m.own) }

// learn takes over the region's total, to which it has just added what this gateway
// had used. Totals only grow, so a region that answers less than it should has lost
// what is missing, as an emptied Redis has, or one whose replica took over. The tenant
// is not given that back.
func (m *monthly) learn(total, added lightcone.Usage) {
	if m.learned {
		m.lostCPU = max(m.lostCPU, m.totalCPU+added.CPU-total.CPU)
		m.lostBytes = max(m.lostBytes, m.totalBytes+bytesOf(added)-bytesOf(total))
	}
	m.totalCPU, m.totalBytes, m.learned = total.CPU+m.lostCPU, bytesOf(total)+m.lostBytes, true
}

// answered is the total that the region last answered.
func (m *monthly) answered() lightcone.Usage {
	return lightcone.Usage{CPU: m.totalCPU - m.lostCPU, BytesIn: m.totalBytes - m.lostBytes}
}

func bytesOf(u lightcone.Usage) int64 { return u.BytesIn + u.BytesOut }

// reached is the quota of the month that is used up, if any.
func (m *monthly) reached(q *lightcone.Quota) Limit {
	switch {
	case q.CPUPerMonth >= 0 && m.cpu() >= q.CPUPerMonth:
		return CPUPerMonth
	case q.BytesPerMonth >= 0 && m.bytes() >= q.BytesPerMonth:
		return BytesPerMonth
	default:
		return ""
	}
}

// isMonthly is whether a quota limits the month.
func isMonthly(q *lightcone.Quota) bool { return q.CPUPerMonth >= 0 || q.BytesPerMonth >= 0 }

// add counts what a call used. A negative part, which nobody should send, counts as 0.
func (m *monthly) add(u lightcone.Usage) {
	m.own.CPU += max(u.CPU, 0)
	m.own.BytesIn += max(u.BytesIn, 0)
	m.own.BytesOut += max(u.BytesOut, 0)
}

// less is a without b, and nothing below 0.
func less(a, b lightcone.Usage) lightcone.Usage {
	return lightcone.Usage{
		CPU:      max(a.CPU-b.CPU, 0),
		BytesIn:  max(a.BytesIn-b.BytesIn, 0),
		BytesOut: max(a.BytesOut-b.BytesOut, 0),
	}
}
