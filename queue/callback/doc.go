// Package callback tells a tenant's URL how an accepted call ended: it says which
// URLs may be named, makes one signed POST to one, and says what to do next.
//
// The request is a Standard Webhook (version 1.0.0 of the specification at
// https://www.standardwebhooks.com), so that its libraries verify it, with the headers
// that OpenFaaS sends with a callback. Its body is the call's result, or an RFC 9457
// problem document if there is no good one:
//
//	Content-Type        of the body
//	Webhook-Id          CALL:FUNCTION:STATUS:HTTP:FINISHED, the same in each retry: the call's
//	                    id, the function, succeeded, failed, cancelled or dead,
//	                    X-Function-Status, and when the call ended in Unix milliseconds
//	Webhook-Timestamp   when this attempt was made, in Unix seconds
//	Webhook-Signature   "v1," and the base64 of the HMAC-SHA256 of ID.TIMESTAMP.BODY;
//	                    several with spaces between them while the region's key changes
//	X-Call-Id           the call's id
//	X-Call-Status       succeeded, failed, cancelled or dead
//	X-Function-Name     the function
//	X-Function-Status   the HTTP status of GET /v1/invocations/CALL/result: the function's
//	                    own, or the problem document's (409 for cancelled and dead calls,
//	                    which have no result)
//	X-Duration-Seconds  how long the function ran, of the attempt that gave the result
//	X-Retry             0 the first time, 1 in the first retry, and so on
//	X-Retry-Max         the most that X-Retry will be
//	X-Result-Location   only without a body: the path at the API where the result is
//
// The signature covers the id, the timestamp and the body. A receiver takes what the X-
// headers say from Webhook-Id instead, where it is signed: its parts hold neither colons
// nor dots, so it reads in one way. The secret is the tenant's own (SecretOf), derived
// from a key of the region, so nothing is stored for it. A receiver refuses a timestamp
// that is more than five minutes off, and remembers the ids it has seen: a callback is
// delivered at least once. The example is such a receiver.
//
// Invariants:
//   - Nothing is sent to an address that is not on the public Internet, or that is this
//     machine's own, unless the operator allows its network. A host is resolved once,
//     every address that it has is judged, and one of these very addresses is dialled.
//     Redirects obey the same rules, and never lead from https to http.
//   - No proxy is used, no connection is kept, no cookie or credential is sent.
//   - Each attempt is bounded in time, in what it reads of the answer, and in how many are made
//     at once, by all tenants and by one.
//   - Which URLs and addresses may be used (Rules), and whether and when to try again
//     (Decide), are pure.
//
// It keeps nothing: the queue keeps the notices, counts the attempts and waits between
// them. It does not promise order.
package callback
