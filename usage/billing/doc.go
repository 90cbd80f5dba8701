// Package billing makes invoices of usage records: map, reduce, price, reconcile.
//
// The map takes the records of an hour (package store says where they lie), counts
// each call once, by its id, and folds them to what each tenant used of each
// function. A share of the map is a share of the calls, by a hash of their ids, and
// reads every object: so all copies of a call meet in one share, whichever objects
// they are in, and shares add up. The reduce adds them to the hour's bill; a month's
// bills and a price list make its invoices.
//
// Invariants: however records are split into objects, in whatever order, however
// often each is stored and in however many shares they are mapped, the bill is the
// same. The same bills and prices give the same invoices, byte for byte; others give a new
// revision, which says what it takes back from the one before or adds to it, and never
// change a revision that was committed. Money is decimal and exact until it is rounded,
// once for each line. An object that cannot be trusted is named and set aside, and
// the rest is billed.
//
// A call's copies meet only within their hour: they all have to lie in the hour of
// the call's start. Records whose call id says another hour are counted as strays.
//
// It does not write records and does not collect money. It contains no SQL and no cgo: package
// duckdb folds for it.
package billing
