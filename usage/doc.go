// Package usage is the ledger of what calls used.
package usage
