// Package admission decides whether a tenant's call may go on, from what the
// tenant may use and what it has used: a token bucket, a bulkhead, what is left of
// the month, and a breaker for tenants whose calls crash functions.
//
// The decisions (bucket.go, breaker.go, month.go) are pure: they take the time as
// an argument. A Table holds what is remembered of each tenant, and a Follower
// tells the region what was used here and learns what was used everywhere.
//
// Invariants:
//   - In any stretch of time t, a tenant is admitted at most burst + rate x t calls,
//     and at no moment more than its concurrent calls.
//   - Every admitted call is settled once; then it counts in nothing but the month.
//   - Admitting and settling allocate nothing, but for a tenant's first call, and
//     do no I/O: without the region, this gateway's own count goes on.
//   - What is remembered is bounded in tenants, and nothing that matters is
//     forgotten as long as there is something else to forget.
//   - Times with Go's monotonic reading, which the gateway passes in, may come in any
//     order: the latest counts, so one that comes late gives its tenant nothing. Only
//     the month follows the calendar.
//   - A clock without one that is set back costs a tenant at most a second and the wait
//     for one token, and gives it at most one burst of tokens, once the clock is forward again.
//
// What it promises is for each gateway by itself: rate, burst and concurrent calls
// of a tenant that uses several gateways add up. The month's quotas hold for the
// region, approximately. They are exceeded by at most
//
//	gateways x (interval between exchanges x what the tenant uses in that time at one of them) + what is in flight + what is queued,
//
// because a gateway hears of what others have counted only once an interval (5 s,
// and up to a tenth more, unless configured), and of what a call costs only when it
// has ended. While the region's store is away, the interval is as long as that.
// A worker that runs queued calls keeps a Table, too, and counts as a gateway in that,
// but refuses nothing: what was queued before the quota was reached is run.
// What a process was not able to tell before it was killed counts for nothing.
// A call of which the worker had said nothing a tenth of a second after its deadline
// counts for nothing: what it cost is not known.
// A store that has lost what it was told gives no tenant its month back where it was
// known: each gateway goes on from the total that it was answered before. One that
// starts later begins with what the store has been told since.
//
// It does not know keys, HTTP, or functions, and it is no bill: a bill is made of
// usage records, one for each call.
package admission
