package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"lightcone"
)

// UsageSums is what calls used together.
type UsageSums struct {
	Calls    int64         `json:"calls"`
	CPU      time.Duration `json:"cpu_ns"`
	BytesIn  int64         `json:"bytes_in"`
	BytesOut int64         `json:"bytes_out"`
}

// Usage is what Lightcone says of the key's tenant.
type Usage struct {
	From      time.Time `json:"from"` // what was added up: whole hours
	To        time.Time `json:"to"`
	Harvest   float64   `json:"harvest"` // the part of those who keep usage that answered; below 1, something may be missing
	Totals    UsageSums `json:"totals"`
	Functions []struct {
		Function lightcone.FunctionName `json:"function"`
		UsageSums
	} `json:"functions"`
}

// Usage asks what was used from from to to, each a time as in RFC 3339 or a date; "" =
// the beginning of the month, and now. strict wants no sum that may lack something. Errors are those of
// Call.
func (c *Client) Usage(ctx context.Context, from, to string, strict bool) (used Usage, err error) {
	asked, header := url.Values{}, http.Header{}
	for name, value := range map[string]string{"from": from, "to": to} {
		if value != "" {
			asked.Set(name, value)
		}
	}
	if strict {
		header.Set("Prefer", "handling=strict")
	}
	_, err = c.exchange(ctx, exchange{
		method: http.MethodGet, path: withQuery("/v1/usage", asked), header: header, want: http.StatusOK,
		receive: func(_ Answer, body io.Reader) error {
			used = Usage{}
			if err := json.NewDecoder(io.LimitReader(body, longestUsage)).Decode(&used); err != nil {
				return fmt.Errorf("the answer about usage is not what it should be: %w", err)
			}
			return nil
		},
	})
	return used, err
}

// longestUsage bounds what is read of an answer about usage, in bytes: thousands of functions.
const longestUsage = 1 << 20
