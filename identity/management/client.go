package management

import (
	"bytes"
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
	"lightcone/identity"
	"lightcone/internal/problem"
)

const (
	clientTimeout = 30 * time.Second // for a whole request: longer than a Manager takes
	mostAnswer    = 32 << 20         // bytes; a full page of the largest entries is below it
)

// Client calls the management routes. What they refuse is a *problem.Error with the kind
// and the sentence of the answer. Any number of goroutines may use it.
type Client struct {
	base     string
	operator identity.Key
	http     *http.Client
}

// NewClient makes a Client of the management listener at a URL such as
// http://127.0.0.1:8081. It shows the operator's key to nobody else: it
// follows no redirects.
func NewClient(base string, operator identity.Key) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return nil, fmt.Errorf("management: the address is not a URL such as http://127.0.0.1:8081, without user and query") // it may hold a password
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil // it would be shown the key
	return &Client{base: strings.TrimSuffix(base, "/"), operator: operator, http: &http.Client{
		Transport:     transport,
		Timeout:       clientTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// CreateTenant makes a tenant.
func (c *Client) CreateTenant(ctx context.Context, id lightcone.TenantID, name string) (tenant identity.Tenant, err error) {
	_, err = c.call(ctx, http.MethodPost, "/v1/tenants", 0, map[string]any{"id": id, "name": name}, &tenant)
	return tenant, err
}

// Tenant reads a tenant and its version.
func (c *Client) Tenant(ctx context.Context, id lightcone.TenantID) (tenant identity.Tenant, version uint64, err error) {
	route, err := tenantRoute(id, "")
	if err != nil {
		return tenant, 0, err
	}
	version, err = c.call(ctx, http.MethodGet, route, 0, nil, &tenant)
	return tenant, version, err
}

// Tenants reads up to limit tenants (1 to MostPerPage) after an id; next is the after
// of the next page, empty at the end.
func (c *Client) Tenants(ctx context.Context, after lightcone.TenantID, limit int) (tenants []identity.Tenant, next lightcone.TenantID, err error) {
	var page tenantsPage
	_, err = c.call(ctx, http.MethodGet, "/v1/tenants"+queryOf(string(after), limit), 0, nil, &page)
	return page.Tenants, page.Next, err
}

// EditTenant changes what is not nil in edit; with a version above 0, only if the
// tenant is still at it.
func (c *Client) EditTenant(ctx context.Context, id lightcone.TenantID, edit Edit, version uint64) (err error) {
	fields := make(map[string]any)
	if edit.Name != nil {
		fields["name"] = *edit.Name
	}
	if edit.Disabled != nil {
		fields["disabled"] = *edit.Disabled
	}
	route, err := tenantRoute(id, "")
	if err != nil {
		return err
	}
	if edit.Quota != nil {
		if len(fields) > 0 {
			return errors.New("edit a tenant: the quota has a route of its own; change it apart from the rest")
		}
		_, err = c.call(ctx, http.MethodPut, route+"/quota", version, identity.DocumentOf(*edit.Quota), nil)
		return err
	}
	_, err = c.call(ctx, http.MethodPatch, route, version, fields, nil)
	return err
}

// IssueKey makes a key; show it to its holder, for it cannot be read again. The
// zero time never expires.
func (c *Client) IssueKey(ctx context.Context, tenant lightcone.TenantID, scopes identity.Scopes, expires time.Time) (identity.Key, KeyDocument, error) {
	fields := map[string]any{"scopes": scopes}
	if !expires.IsZero() {
		fields["expires_at"] = expires
	}
	route, err := tenantRoute(tenant, "/keys")
	if err != nil {
		return identity.Key{}, KeyDocument{}, err
	}
	var issued issuedDocument
	if _, err := c.call(ctx, http.MethodPost, route, 0, fields, &issued); err != nil {
		return identity.Key{}, KeyDocument{}, err
	}
	key, err := identity.ParseKey([]byte(issued.Key))
	if err != nil {
		return identity.Key{}, KeyDocument{}, fmt.Errorf("issue a key: read the answer: %w", err)
	}
	return key, issued.KeyDocument, nil
}

// Keys reads up to limit of the tenant's keys after an id, as Tenants does.
func (c *Client) Keys(ctx context.Context, tenant lightcone.TenantID, after identity.KeyID, limit int) (keys []KeyDocument, next identity.KeyID, err error) {
	route, err := tenantRoute(tenant, "/keys")
	if err != nil {
		return nil, "", err
	}
	var page keysPage
	_, err = c.call(ctx, http.MethodGet, route+queryOf(string(after), limit), 0, nil, &page)
	return page.Keys, page.Next, err
}

// CallbackSecret reads what a tenant verifies its callbacks with.
func (c *Client) CallbackSecret(ctx context.Context, id lightcone.TenantID) (string, error) {
	route, err := tenantRoute(id, "/callback-secret")
	if err != nil {
		return "", err
	}
	var document callbackSecretDocument
	_, err = c.call(ctx, http.MethodGet, route, 0, nil, &document)
	return document.Secret, err
}

// Key reads a key, without its secret.
func (c *Client) Key(ctx context.Context, id identity.KeyID) (key KeyDocument, err error) {
	if id.Validate() != nil {
		return key, noKey(id)
	}
	_, err = c.call(ctx, http.MethodGet, "/v1/keys/"+string(id), 0, nil, &key)
	return key, err
}

// RevokeKey ends a key for good. It is no error that it is revoked already.
func (c *Client) RevokeKey(ctx context.Context, id identity.KeyID) error {
	if id.Validate() != nil {
		return noKey(id)
	}
	_, err := c.call(ctx, http.MethodDelete, "/v1/keys/"+string(id), 0, nil, nil)
	return err
}

// Audit reads up to limit entries of the audit trail after a number; next is the
// after of the next page, 0 at the end.
func (c *Client) Audit(ctx context.Context, after uint64, limit int) (entries []identity.Entry, next uint64, err error) {
	var page auditPage
	if _, err = c.call(ctx, http.MethodGet, "/v1/audit"+queryOf(strconv.FormatUint(after, 10), limit), 0, nil, &page); err != nil {
		return nil, 0, err
	}
	for _, stored := range page.Entries {
		var entry identity.Entry
		if err := json.Unmarshal(stored, &entry); err != nil {
			return nil, 0, fmt.Errorf("read the audit trail: an entry after %d: %w", after, err)
		}
		entries = append(entries, entry)
	}
	return entries, page.Next, nil
}

// VerifyAudit verifies the audit trail from its start to its end, which ctx bounds.
func (c *Client) VerifyAudit(ctx context.Context) (v Verification, err error) {
	for after := uint64(0); ; after = v.Verified {
		v = Verification{}
		if _, err = c.call(ctx, http.MethodGet, "/v1/audit/verify"+queryOf(strconv.FormatUint(after, 10), 0), 0, nil, &v); err != nil || v.Done() {
			return v, err
		}
		if v.Verified <= after {
			return v, fmt.Errorf("verify the audit trail: the answer after entry %d goes no further", after)
		}
	}
}

// tenantRoute is a route of the tenant's. What cannot be an id is not sent: it might
// be a key, and addresses are logged.
func tenantRoute(id lightcone.TenantID, rest string) (string, error) {
	if id.Validate() != nil {
		return "", noTenant(id)
	}
	return "/v1/tenants/" + string(id) + rest, nil
}

func queryOf(after string, limit int) string {
	query := make(url.Values)
	if after != "" {
		query.Set("after", after)
	}
	if limit != 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	return "?" + query.Encode()
}

// call sends a request and reads its answer; version is that of the answer's ETag.
func (c *Client) call(ctx context.Context, method, path string, ifMatch uint64, send, into any) (version uint64, err error) {
	request, err := c.request(ctx, method, path, send)
	if err != nil {
		return 0, err
	}
	if ifMatch > 0 {
		request.Header.Set("If-Match", etagOf(ifMatch))
	}
	response, err := c.http.Do(request)
	if err != nil {
		return 0, fmt.Errorf("call the management plane: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, mostAnswer))
	if err != nil {
		return 0, fmt.Errorf("read the answer of %s %s: %w", method, path, err)
	}
	if response.StatusCode/100 != 2 {
		return 0, refused(response, body)
	}
	if into != nil {
		if err := json.Unmarshal(body, into); err != nil {
			return 0, fmt.Errorf("read the answer of %s %s: %w", method, path, err)
		}
	}
	version, _ = strconv.ParseUint(strings.Trim(response.Header.Get("ETag"), `"`), 10, 64) // 0 without
	return version, nil
}

func (c *Client) request(ctx context.Context, method, path string, send any) (*http.Request, error) {
	var body io.Reader = http.NoBody
	if send != nil {
		text, err := json.Marshal(send)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
		body = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	request.Header.Set("Authorization", "Bearer "+c.operator.Text())
	request.Header.Set("Content-Type", "application/json")
	return request, nil
}

// refused is the problem in an answer, or what else it says.
func refused(response *http.Response, body []byte) error {
	var document problemDocument
	kind, ours := "", false
	if json.Unmarshal(body, &document) == nil {
		kind, ours = strings.CutPrefix(document.Type, problemPrefix)
	}
	if !ours {
		return fmt.Errorf("the management plane answered %s: %.200s", response.Status, strings.TrimSpace(string(body)))
	}
	found := problem.New(problem.Kind(kind), "%s", document.Detail)
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil {
		found.RetryAfter = time.Duration(seconds) * time.Second
	}
	return found
}
