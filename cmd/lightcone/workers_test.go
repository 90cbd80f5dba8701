package main

import (
	"slices"
	"testing"
)

func TestLeavers(t *testing.T) {
	for _, test := range []struct {
		name          string
		well, ill     []string
		listed        []string
		gone, doubted []string
	}{
		{"nobody leaves", []string{"a", "b"}, nil, []string{"a", "b", "c"}, nil, nil},
		{"one of three leaves, and is well", []string{"a", "b", "c"}, nil, []string{"a", "b"}, []string{"c"}, nil},
		{"two of four leave", []string{"a", "b", "c", "d"}, nil, []string{"a", "b"}, []string{"c", "d"}, nil},
		{"most leave, and are well", []string{"a", "b", "c"}, nil, []string{"a"}, nil, []string{"b", "c"}},
		{"all leave, and some are well", []string{"a"}, []string{"b", "c"}, nil, []string{"b", "c"}, []string{"a"}},
		{"all leave, and none is well", nil, []string{"a", "b"}, nil, []string{"a", "b"}, nil},
		{"the last one leaves, and is well", []string{"a"}, nil, nil, nil, []string{"a"}},
	} {
		known := make(map[string]bool)
		for _, id := range test.well {
			known[id] = true
		}
		for _, id := range test.ill {
			known[id] = false
		}
		listed := make(map[string]bool)
		for _, id := range test.listed {
			listed[id] = true
		}
		gone, doubted := leavers(known, listed)
		slices.Sort(gone)
		slices.Sort(doubted)
		if !slices.Equal(gone, test.gone) || !slices.Equal(doubted, test.doubted) {
			t.Errorf("%s: %v go and %v are doubted, want %v and %v", test.name, gone, doubted, test.gone, test.doubted)
		}
	}
}
