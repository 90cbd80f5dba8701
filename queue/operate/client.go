package operate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"lightcone"
	"lightcone/internal/problem"
)

const (
	clientTimeout = 30 * time.Second // for a whole request: longer than the routes take
	mostAnswer    = 64 << 20         // bytes: a page, or the longest input
)

// Client calls the routes. What they refuse is a *problem.Error with the kind and the
// sentence of the answer. Any number of goroutines may use it.
type Client struct {
	base, key string
	http      *http.Client
}

// NewClient makes a Client of the management listener at a URL such as
// http://127.0.0.1:8081. It shows the operator's key to nobody else: it follows no
// redirects and uses no proxy.
func NewClient(base, operatorKey string) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return nil, errors.New("the address is not a URL such as http://127.0.0.1:8081, without user and query") // it may hold a password
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	return &Client{base: strings.TrimSuffix(base, "/"), key: operatorKey, http: &http.Client{
		Transport:     transport,
		Timeout:       clientTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// List reads a page of dead letters of a tenant ("" = of all) after an id ("" = from
// the first); next is the after of the next page, empty at the end.
func (c *Client) List(ctx context.Context, tenant lightcone.TenantID, after string) (letters []Letter, next string, err error) {
	query := url.Values{"limit": {strconv.Itoa(MostPerPage)}}
	if tenant != "" {
		query.Set("tenant", string(tenant))
	}
	if after != "" {
		query.Set("after", after)
	}
	var found page
	if err := c.call(ctx, http.MethodGet, "?"+query.Encode(), &found); err != nil {
		return nil, "", err
	}
	return found.Letters, found.Next, nil
}

// Show reads a dead letter.
func (c *Client) Show(ctx context.Context, id lightcone.CallID) (letter Letter, err error) {
	err = c.call(ctx, http.MethodGet, "/"+id.String(), &letter)
	return letter, err
}

// Input reads the input of a dead letter.
func (c *Client) Input(ctx context.Context, id lightcone.CallID) (input []byte, err error) {
	return c.do(ctx, http.MethodGet, "/"+id.String()+"/input")
}

// Redrive queues the call of a dead letter again.
func (c *Client) Redrive(ctx context.Context, id lightcone.CallID) error {
	return c.call(ctx, http.MethodPost, "/"+id.String()+"/redrive", new(redriven))
}

// Drop removes a dead letter for good.
func (c *Client) Drop(ctx context.Context, id lightcone.CallID) error {
	_, err := c.do(ctx, http.MethodDelete, "/"+id.String())
	return err
}

// call sends a request and reads the JSON that answers it.
func (c *Client) call(ctx context.Context, method, path string, into any) error {
	body, err := c.do(ctx, method, path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("read the answer of %s /v1/deadletters%s: %w", method, path, err)
	}
	return nil
}

// do sends a request and reads its answer.
func (c *Client) do(ctx context.Context, method, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base+"/v1/deadletters"+path, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("ask about dead letters: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+c.key)
	response, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask about dead letters: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, mostAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the answer about dead letters: %w", err)
	}
	if response.StatusCode/100 == 2 {
		return body, nil
	}
	var refused problemDocument
	kind, ours := "", false
	if json.Unmarshal(body, &refused) == nil {
		kind, ours = strings.CutPrefix(refused.Type, problemPrefix)
	}
	if !ours {
		return nil, fmt.Errorf("%s answered %s to a question about dead letters: is that the management listener, and the operator's key the right one?", c.base, response.Status)
	}
	return nil, &problem.Error{Kind: problem.Kind(kind), Detail: refused.Detail}
}
