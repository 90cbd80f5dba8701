// Package consul is Lightcone's only way to Consul: who offers a service and is
// well (Instances, Watch), a few keys with compare-and-set (Get, CompareAndSet,
// List, Delete), one leader at a time (Election), and the ACL policies, roles
// and login rules that the cluster needs (policies/*.hcl).
//
// Invariants:
//   - Every request has a deadline.
//   - A watch that learns nothing says nothing: the last set stays with the
//     caller until Consul answers with one that is newer and complete.
//   - A leader trusts its lead by its own monotonic clock alone: until the moment
//     it sent its last successful renewal, plus the session's TTL, less a margin.
//     Trust that has ended never comes back within a term.
//   - PutFenced is refused by Consul itself once the lock has gone to another, so
//     a leader that was wrong about the time does no harm with it.
//
// It does not decide what an empty or a shrinking set of instances means, it does
// not register services (Nomad does), and it does not fence effects on anything
// but Consul's own keys. The monotonic clock stands still while a machine is
// suspended: there, only the fence protects.
package consul
