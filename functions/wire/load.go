package wire

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	"lightcone"
	"lightcone/functions"
)

// Load is what a worker says of itself at GET /load.
type Load struct {
	Draining  bool // it refuses calls and is going to stop
	Functions []FunctionLoad
}

// FunctionLoad is one function's part of a Load. Times are whole milliseconds on
// the wire, rounded up.
type FunctionLoad struct {
	Name           lightcone.FunctionName
	Slots          int           // calls it runs at once now; 0 while draining or not ready
	Busy           int           // of them, those that run a call, whoever gave it to the worker
	Held           int           // of the busy ones, those that others than gateways have: see Sharer
	DefaultTimeout time.Duration // see functions.Spec
	MaxTimeout     time.Duration // see functions.Spec
	MaxBodyBytes   int64         // see functions.Spec
	ColdStart      time.Duration // see functions.Offer
}

// functionLoad is a FunctionLoad in JSON.
type functionLoad struct {
	Name             lightcone.FunctionName `json:"name"`
	Slots            int                    `json:"slots"`
	Busy             int                    `json:"busy"`
	Held             int                    `json:"held,omitempty"`
	DefaultTimeoutMS int64                  `json:"default_timeout_ms"`
	MaxTimeoutMS     int64                  `json:"max_timeout_ms"`
	MaxBodyBytes     int64                  `json:"max_body_bytes"`
	ColdStartMS      int64                  `json:"cold_start_ms,omitempty"`
}

type loadDocument struct {
	Draining  bool           `json:"draining"`
	Functions []functionLoad `json:"functions"`
}

// MarshalJSON writes
// {"draining","functions":[{"name","slots","busy","default_timeout_ms","max_timeout_ms","max_body_bytes"}]},
// and in a function "held" and "cold_start_ms" when it has them.
func (l Load) MarshalJSON() ([]byte, error) {
	document := loadDocument{Draining: l.Draining, Functions: make([]functionLoad, 0, len(l.Functions))}
	for _, f := range l.Functions {
		document.Functions = append(document.Functions, functionLoad{
			Name: f.Name, Slots: f.Slots, Busy: f.Busy, Held: f.Held,
			DefaultTimeoutMS: milliseconds(f.DefaultTimeout), MaxTimeoutMS: milliseconds(f.MaxTimeout),
			MaxBodyBytes: f.MaxBodyBytes, ColdStartMS: milliseconds(f.ColdStart),
		})
	}
	return json.Marshal(document)
}

// milliseconds rounds up: a timeout of less than one is not none.
func milliseconds(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}

// maxLoadNumber bounds slots and busy counts: beyond any machine, far from overflow.
const maxLoadNumber = 1 << 20

// UnmarshalJSON reads what MarshalJSON writes, and refuses numbers that cannot be.
func (l *Load) UnmarshalJSON(text []byte) error {
	var document loadDocument
	if err := json.Unmarshal(text, &document); err != nil {
		return err
	}
	read := Load{Draining: document.Draining, Functions: make([]FunctionLoad, 0, len(document.Functions))}
	for _, f := range document.Functions {
		if err := f.validate(); err != nil {
			return err
		}
		read.Functions = append(read.Functions, FunctionLoad{
			Name: f.Name, Slots: f.Slots, Busy: f.Busy, Held: f.Held,
			DefaultTimeout: time.Duration(f.DefaultTimeoutMS) * time.Millisecond,
			MaxTimeout:     time.Duration(f.MaxTimeoutMS) * time.Millisecond,
			MaxBodyBytes:   f.MaxBodyBytes,
			ColdStart:      time.Duration(f.ColdStartMS) * time.Millisecond,
		})
	}
	*l = read
	return nil
}

func (f functionLoad) validate() error {
	const longest = int64(maxRemaining / time.Millisecond)
	if err := f.Name.Validate(); err != nil {
		return err
	}
	for _, field := range []struct {
		name               string
		value, least, most int64
	}{
		{"slots", int64(f.Slots), 0, maxLoadNumber},
		{"busy", int64(f.Busy), 0, maxLoadNumber},
		{"held", int64(f.Held), 0, int64(f.Busy)},
		{"default_timeout_ms", f.DefaultTimeoutMS, 1, longest},
		{"max_timeout_ms", f.MaxTimeoutMS, f.DefaultTimeoutMS, longest},
		{"max_body_bytes", f.MaxBodyBytes, 1, math.MaxInt64},
		{"cold_start_ms", f.ColdStartMS, 0, longest},
	} {
		if field.value < field.least || field.value > field.most {
			return fmt.Errorf("function %s: %s is %d: want %d to %d", f.Name, field.name, field.value, field.least, field.most)
		}
	}
	return nil
}

// offers turns a load into what a gateway can call. Without accepting there are
// no slots: the functions are known, and not to be called now.
func (l Load) offers(accepting bool) []functions.Offer {
	offers := make([]functions.Offer, 0, len(l.Functions))
	for _, f := range l.Functions {
		offer := functions.Offer{Spec: functions.Spec{
			Name: f.Name, DefaultTimeout: f.DefaultTimeout, MaxTimeout: f.MaxTimeout, MaxBodyBytes: f.MaxBodyBytes,
		}}
		if accepting && !l.Draining {
			offer.Slots, offer.ColdStart = f.Slots, f.ColdStart
		}
		offers = append(offers, offer)
	}
	return offers
}

// function finds a function's load by name; it is empty when there is none.
func (l Load) function(name lightcone.FunctionName) FunctionLoad {
	for _, f := range l.Functions {
		if f.Name == name {
			return f
		}
	}
	return FunctionLoad{}
}
