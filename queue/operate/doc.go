// Package operate is how an operator sees to the queue's dead letters over HTTP: the
// routes that list, show, redrive and drop them, and a client of those routes.
//
// Invariants: whatever the routes answer that is no success is an RFC 9457 problem
// document; a page of another site can change nothing; an input is only ever handed
// out as a download, for a browser must not take it for a page of the management plane.
//
// It does not ask who the operator is: whoever mounts the routes does. It does not
// know how dead letters are kept (package queue does), nor when a call becomes one.
package operate
