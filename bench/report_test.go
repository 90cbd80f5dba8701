package main

import "testing"

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		samples []float64
		want    float64
	}{{[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 2, 9}, 3}} {
		if got := median(test.samples); got != test.want {
			t.Errorf("the median of %v is %v, not %v", test.samples, got, test.want)
		}
	}
}

func TestRatiosGoRoundByRound(t *testing.T) {
	got := ratios([]float64{10, 30}, []float64{5, 60})
	if got[0] != 2 || got[1] != 0.5 {
		t.Errorf("got %v", got)
	}
}
