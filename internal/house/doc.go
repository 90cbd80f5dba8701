// Package house keeps the project's house rules as tests: which folder may
// import which, which vendor's library lives where, that packages and exported
// names are explained, that files stay short, and that the folder map in
// ARCHITECTURE.md is the tree as it is.
//
// Invariants: a rule is a pure function from a description of the tree to the
// list of what breaks it, and is itself tested on a tree that breaks it. The
// tree is what git tracks or would track, so a rule speaks before the commit.
//
// There is no code here for the product to import. Beside the tests stand the
// programs that the Makefile calls: install, require-go and testreport.
package house
