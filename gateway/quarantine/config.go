package quarantine

import (
	"fmt"
	"time"
)

// Config holds the book's bounds. Start from DefaultConfig.
type Config struct {
	Expiry          time.Duration // after the last slot that it killed, an input is forgotten; at most 30 days
	SharesPerSecond float64       // strikes that one gateway writes to the store, on average; each is one Commit
	Burst           int           // and how many it may write at once
	MostInputs      int           // in quarantine; one more, and the one that expires first goes
	MostStrikes     int           // inputs with one strike in a gateway's memory; one more, and the oldest goes
	MostWaiting     int           // strikes that wait to be written; one more counts on its gateway only
	SweepEvery      time.Duration // between two looks for expired documents in the store
	StoreTimeout    time.Duration // for one read or write of the store
}

// DefaultConfig is for a region of a few gateways: together they write a few documents
// a second at most, and sweep faster than they write.
func DefaultConfig() Config {
	return Config{
		Expiry:          time.Hour,
		SharesPerSecond: 0.5,
		Burst:           32,
		MostInputs:      4096,
		MostStrikes:     8192,
		MostWaiting:     256,
		SweepEvery:      30 * time.Second,
		StoreTimeout:    5 * time.Second,
	}
}

// Validate names the first field that cannot be used.
func (c Config) Validate() error {
	if c.Expiry <= 0 || c.Expiry > longestExpiry {
		return fmt.Errorf("quarantine config: Expiry is %v: want more than 0 and at most %v", c.Expiry, longestExpiry)
	}
	for _, field := range []struct {
		name  string
		value float64
	}{
		{"SharesPerSecond", c.SharesPerSecond},
		{"Burst", float64(c.Burst)},
		{"MostInputs", float64(c.MostInputs)},
		{"MostStrikes", float64(c.MostStrikes)},
		{"MostWaiting", float64(c.MostWaiting)},
		{"SweepEvery", float64(c.SweepEvery)},
		{"StoreTimeout", float64(c.StoreTimeout)},
	} {
		if !(field.value > 0) { // also NaN
			return fmt.Errorf("quarantine config: %s is %v: want more than 0", field.name, field.value)
		}
	}
	return nil
}
