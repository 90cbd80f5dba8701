package operate

import (
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"lightcone"
	"lightcone/internal/problem"
	"lightcone/queue"
)

// DeadLetters are those of a queue, as *queue.Client has them. Its errors are problems.
type DeadLetters interface {
	// DeadLetters lists at most so many of a tenant ("" = of all) whose ids are after
	// the given one (zero = from the first), by id and without their inputs.
	DeadLetters(ctx context.Context, tenant lightcone.TenantID, after lightcone.CallID, most int) ([]queue.DeadLetter, error)
	// DeadLetter is one with its input.
	DeadLetter(ctx context.Context, id lightcone.CallID) (queue.DeadLetter, error)
	// Redrive queues the call again, with all its attempts, and answers its state.
	Redrive(ctx context.Context, id lightcone.CallID) (lightcone.Invocation, error)
	// Drop removes it for good.
	Drop(ctx context.Context, id lightcone.CallID) error
}

const (
	// MostPerPage is the most dead letters in one answer.
	MostPerPage    = 100
	defaultPerPage = 100
	patience       = 20 * time.Second // for one request at the queue
)

// Letter is a dead letter in JSON.
type Letter struct {
	ID          string                 `json:"id"`
	Tenant      lightcone.TenantID     `json:"tenant"`
	Function    lightcone.FunctionName `json:"function"`
	Attempts    int                    `json:"attempts"`
	Redriven    int                    `json:"redriven"` // times before it died again
	CreatedAt   time.Time              `json:"created_at"`
	DiedAt      time.Time              `json:"died_at"`
	Error       string                 `json:"error"` // why its last attempt failed, or why there was no further one
	Query       string                 `json:"query"`
	ContentType string                 `json:"content_type"`
	InputBytes  int64                  `json:"input_bytes"`
	Timeout     string                 `json:"timeout"` // of each attempt, as a Go duration
	Callback    string                 `json:"callback_url"`
}

func letterOf(d *queue.DeadLetter) Letter {
	i := &d.Invocation
	return Letter{
		ID: i.ID.String(), Tenant: i.Tenant, Function: i.Function, Attempts: i.Attempts, Redriven: d.Generation,
		CreatedAt: i.CreatedAt.UTC(), DiedAt: i.FinishedAt.UTC(), Error: i.Error, Query: string(d.Query),
		ContentType: string(d.ContentType), InputBytes: d.InputBytes, Timeout: d.Timeout.String(), Callback: d.Callback,
	}
}

// page is a part of the list; Next is the after of the next one, empty at the end.
type page struct {
	Letters []Letter `json:"deadletters"`
	Next    string   `json:"next,omitempty"`
}

// redriven is what came of a redrive.
type redriven struct {
	ID       string                     `json:"id"`
	Function lightcone.FunctionName     `json:"function"`
	Status   lightcone.InvocationStatus `json:"status"`
}

// Routes serves the dead letters:
//
//	GET    /v1/deadletters?tenant=&after=&limit=
//	GET    /v1/deadletters/{id}
//	GET    /v1/deadletters/{id}/input
//	POST   /v1/deadletters/{id}/redrive
//	DELETE /v1/deadletters/{id}
//
// Whoever mounts them lets in only the operator. What is redriven or dropped is logged.
func Routes(letters DeadLetters, logger *slog.Logger) http.Handler {
	r := routes{letters, logger}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/deadletters", r.list)
	mux.HandleFunc("GET /v1/deadletters/{id}", r.one(r.show))
	mux.HandleFunc("GET /v1/deadletters/{id}/input", r.one(r.input))
	mux.HandleFunc("POST /v1/deadletters/{id}/redrive", r.one(r.redrive))
	mux.HandleFunc("DELETE /v1/deadletters/{id}", r.one(r.drop))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 0, nil, problem.New(problem.NotFound, "There is no such route; there are GET /v1/deadletters, GET and DELETE /v1/deadletters/{id}, GET /v1/deadletters/{id}/input and POST /v1/deadletters/{id}/redrive."))
	})
	sameSite := http.NewCrossOriginProtection()
	sameSite.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 0, nil, problem.New(problem.Forbidden, "A page of another site sent this; the management plane takes changes from its own and from programs."))
	}))
	return sameSite.Handler(mux)
}

type routes struct {
	letters DeadLetters
	logger  *slog.Logger
}

func (rs routes) list(w http.ResponseWriter, r *http.Request) {
	tenant, after, limit, err := listed(r.URL.RawQuery)
	if err != nil {
		answer(w, 0, nil, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	found, err := rs.letters.DeadLetters(ctx, tenant, after, limit+1) // one more tells whether there are more
	p := page{Letters: []Letter{}}
	for i := range found {
		if i == limit {
			p.Next = p.Letters[limit-1].ID
			break
		}
		p.Letters = append(p.Letters, letterOf(&found[i]))
	}
	answer(w, http.StatusOK, p, err)
}

// listed reads what the list's query asks for.
func listed(query string) (tenant lightcone.TenantID, after lightcone.CallID, limit int, err error) {
	limit = defaultPerPage
	values, err := url.ParseQuery(query)
	if err != nil {
		return tenant, after, limit, problem.New(problem.BadParameter, "The query cannot be read; want tenant, after and limit.")
	}
	for name, given := range values {
		value := given[0]
		var bad error
		switch {
		case len(given) > 1:
			bad = problem.New(problem.BadParameter, "The parameter %q came %d times; send it once.", short(name), len(given))
		case name == "tenant" && value != "":
			if tenant = lightcone.TenantID(value); tenant.Validate() != nil {
				bad = problem.New(problem.BadParameter, "tenant is %q, which cannot be the id of one.", short(value))
			}
		case name == "after" && value != "":
			if after, err = lightcone.ParseCallID(value); err != nil {
				bad = problem.New(problem.BadParameter, "after is %q; want the id of a dead letter, or nothing.", short(value))
			}
		case name == "limit" && value != "":
			if limit, err = strconv.Atoi(value); err != nil || limit < 1 || limit > MostPerPage {
				bad = problem.New(problem.BadParameter, "limit is %q; want 1 to %d.", short(value), MostPerPage)
			}
		case name != "tenant" && name != "after" && name != "limit":
			bad = problem.New(problem.BadParameter, "There is no parameter %q; want tenant, after and limit.", short(name))
		}
		if bad != nil {
			return "", lightcone.CallID{}, 0, bad
		}
	}
	return tenant, after, limit, nil
}

func short(text string) string { return text[:min(len(text), 64)] }

// one is a route of one dead letter.
func (rs routes) one(act func(context.Context, http.ResponseWriter, lightcone.CallID)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id, err := lightcone.ParseCallID(r.PathValue("id"))
		if err != nil {
			answer(w, 0, nil, problem.New(problem.NotFound, "There is no dead letter %q; GET /v1/deadletters lists those that there are.", short(r.PathValue("id"))))
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		act(ctx, w, id)
	}
}

func (rs routes) show(ctx context.Context, w http.ResponseWriter, id lightcone.CallID) {
	found, err := rs.letters.DeadLetter(ctx, id)
	answer(w, http.StatusOK, letterOf(&found), err)
}

func (rs routes) input(ctx context.Context, w http.ResponseWriter, id lightcone.CallID) {
	found, err := rs.letters.DeadLetter(ctx, id)
	if err != nil {
		answer(w, 0, nil, err)
		return
	}
	secure(w.Header())
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", `attachment; filename="`+id.String()+`"`)
	w.Header().Set("Content-Length", strconv.Itoa(len(found.Input)))
	_, _ = w.Write(found.Input) // a reader that left needs no answer
}

func (rs routes) redrive(ctx context.Context, w http.ResponseWriter, id lightcone.CallID) {
	invocation, err := rs.letters.Redrive(ctx, id)
	if err == nil {
		rs.logger.Info("a dead letter was redriven", "call", id, "tenant", invocation.Tenant, "function", invocation.Function)
	}
	answer(w, http.StatusAccepted, redriven{id.String(), invocation.Function, invocation.Status}, err)
}

func (rs routes) drop(ctx context.Context, w http.ResponseWriter, id lightcone.CallID) {
	err := rs.letters.Drop(ctx, id)
	if err == nil {
		rs.logger.Info("a dead letter was dropped", "call", id)
	}
	answer(w, http.StatusNoContent, nil, err)
}

// rows are the kinds that these routes answer with, and how they look in HTTP.
var rows = map[problem.Kind]struct {
	status int
	title  string
}{
	problem.BadParameter: {http.StatusBadRequest, "Bad parameter"},
	problem.Forbidden:    {http.StatusForbidden, "Not allowed from another site"},
	problem.NotFound:     {http.StatusNotFound, "Not found"},
	problem.LimitReached: {http.StatusTooManyRequests, "Limit reached"},
	problem.Overloaded:   {http.StatusServiceUnavailable, "Cannot answer now"},
	problem.Internal:     {http.StatusInternalServerError, "Internal error"},
}

// problemPrefix begins the type of each problem document.
const problemPrefix = "urn:lightcone:problem:"

// problemDocument is an RFC 9457 problem document.
type problemDocument struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

func secure(header http.Header) {
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
}

// answer writes a value as JSON, or the problem that kept it from being there.
func answer(w http.ResponseWriter, status int, value any, err error) {
	secure(w.Header())
	kind := "application/json"
	if err != nil {
		found := problem.Of(err)
		row, known := rows[found.Kind]
		if !known {
			row = rows[problem.Internal]
		}
		if row.status == http.StatusServiceUnavailable || row.status == http.StatusTooManyRequests {
			w.Header().Set("Retry-After", strconv.Itoa(int(max(math.Ceil(found.RetryAfter.Seconds()), 1))))
		}
		w.Header().Set("X-Lightcone-Error", "platform")
		kind, status = "application/problem+json", row.status
		value = problemDocument{problemPrefix + string(found.Kind), row.title, row.status, found.Detail}
	}
	if value == nil {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // a reader that left needs no answer
}
