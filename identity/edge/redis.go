package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisConfig says how the region's Redis is reached: through its Sentinels, which
// know the master.
type RedisConfig struct {
	Sentinels        []string // host:port of each; none = not known yet, see Follow
	Master           string   // the master's name among the Sentinels
	Username         string   // of an ACL user who may do what ACLRules say; empty = the default user
	Password         string
	SentinelPassword string
	Logger           *slog.Logger
}

// ACLRules is what a Redis user needs for all of this package, in the words of ACL
// SETUSER, without its password.
const ACLRules = "resetkeys resetchannels ~lightcone:* &lightcone:* -@all +@connection +hmget +hset +pexpire +hincrby +expire +eval +evalsha +publish +subscribe +unsubscribe +ping +multi +exec +info"

// What is in Redis is below these names.
const (
	documentsPrefix = "lightcone:document:"
	spentPrefix     = "lightcone:spent:"
	changesChannel  = "lightcone:changes"
)

// Redis is a connection to the region's Redis, for a Directory, an Announcer and a
// Spending. It is safe for concurrent use.
type Redis struct {
	config   RedisConfig
	breaker  breaker
	staleFor time.Duration

	mu        sync.Mutex                   // for changes of:
	client    atomic.Pointer[redis.Client] // nil while no Sentinel is known
	sentinels []string
	closed    bool
}

var quiet sync.Once

// libraryLog takes the library's own lines down to debug: that a Redis is away is
// counted, and is no news for each connection.
type libraryLog struct{ logger *slog.Logger }

func (l libraryLog) Printf(ctx context.Context, format string, args ...any) {
	l.logger.DebugContext(ctx, "go-redis: "+fmt.Sprintf(format, args...))
}

// DefaultStaleFor is for how long what nobody can confirm is believed, unless
// configured.
const DefaultStaleFor = 24 * time.Hour

// Connect makes a Redis. It connects when it is first used, and again whenever it
// has to; so that none answers now is no error. staleFor is how long a document
// stays there after its last confirmation.
func Connect(c RedisConfig, staleFor time.Duration) (*Redis, error) {
	if c.Master == "" || c.Logger == nil || staleFor <= 0 {
		return nil, errors.New("edge: the configuration of Redis lacks the master's name, a logger or how long to keep documents: set all of them")
	}
	quiet.Do(func() { redis.SetLogger(libraryLog{c.Logger}) }) // the library has one logger for all clients
	r := &Redis{config: c, staleFor: staleFor, breaker: breaker{outage: newOutage("Redis", c.Logger, failuresToOpen)}}
	r.Follow(c.Sentinels)
	return r, nil
}

// Follow says where the Sentinels are now. They tell of each other, so only a set
// without any that was named before makes a difference; an empty one makes none.
func (r *Redis) Follow(sentinels []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := slices.ContainsFunc(sentinels, func(s string) bool { return slices.Contains(r.sentinels, s) })
	if r.closed || known || len(sentinels) == 0 {
		return
	}
	c := r.config
	r.sentinels = slices.Clone(sentinels)
	old := r.client.Swap(redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: c.Master, SentinelAddrs: r.sentinels,
		SentinelPassword: c.SentinelPassword, Username: c.Username, Password: c.Password,
		DialTimeout: redisTimeout, DialerRetries: 1, ReadTimeout: redisTimeout, WriteTimeout: redisTimeout,
		ContextTimeoutEnabled: true, PoolSize: 16, PoolTimeout: redisTimeout, PipelinePoolSize: -1,
		MaxRetries:      -1, // spending is added; twice would be wrong. For reading there is the origin
		DisableIdentity: true,
	}))
	if old != nil {
		_ = old.Close() // what it was asked last fails, and is asked again
	}
}

// Close ends all connections. Nothing uses the Redis any more.
func (r *Redis) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if client := r.client.Load(); client != nil {
		return client.Close()
	}
	return nil
}

// guarded runs a command, unless Redis keeps failing or nobody knows where it is.
func (r *Redis) guarded(ctx context.Context, command func(context.Context, *redis.Client) error) error {
	client := r.client.Load()
	if client == nil || !r.breaker.allow(time.Now()) {
		return fmt.Errorf("redis: %w", errWithheld)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*redisTimeout) // finding the master, and the command
	defer cancel()
	err := command(ctx, client)
	if errors.Is(err, redis.Nil) {
		r.breaker.report(nil, time.Now())
		return err
	}
	r.breaker.report(err, time.Now())
	return err
}

// kept is a document as Redis keeps and publishes it.
type kept struct {
	Path      string    `json:"path"`
	Version   uint64    `json:"version"`
	Confirmed time.Time `json:"confirmed"`
	Document  []byte    `json:"document,omitempty"` // empty: it was deleted
}

// age is how long ago the origin confirmed the document. One from the future has
// passed through a clock that is wrong, ours or another's: it counts as no longer
// fresh, and no older.
func (k kept) age(now time.Time, freshFor time.Duration) time.Duration {
	if age := now.Sub(k.Confirmed); age >= 0 {
		return age
	}
	return freshFor
}

// ping asks whether Redis is there, also on behalf of those who do not ask just now.
func (r *Redis) ping(ctx context.Context) error {
	return r.guarded(ctx, func(ctx context.Context, client *redis.Client) error { return client.Ping(ctx).Err() })
}

func (r *Redis) get(ctx context.Context, path string) (kept, error) {
	var fields []any
	err := r.guarded(ctx, func(ctx context.Context, client *redis.Client) (err error) {
		fields, err = client.HMGet(ctx, documentsPrefix+path, "version", "confirmed", "document").Result()
		return err
	})
	if err != nil {
		return kept{}, fmt.Errorf("redis: read %s: %w", path, err)
	}
	return parseKept(path, fields)
}

// parseKept reads the three fields of a document's hash; nil are those of none.
func parseKept(path string, fields []any) (kept, error) {
	if len(fields) == 3 && fields[0] == nil && fields[1] == nil && fields[2] == nil {
		return kept{Path: path}, nil
	}
	var text [3]string
	for i := range min(len(fields), len(text)) {
		text[i], _ = fields[i].(string)
	}
	version, err := strconv.ParseUint(text[0], 10, 53)
	confirmed, alsoErr := strconv.ParseInt(text[1], 10, 64)
	if err := errors.Join(err, alsoErr); err != nil || version == 0 {
		return kept{}, fmt.Errorf("redis: %s has version %.30q, confirmed at %.30q: want two numbers", path, text[0], text[1])
	}
	return kept{Path: path, Version: version, Confirmed: time.UnixMilli(confirmed), Document: []byte(text[2])}, nil
}

// putNewer keeps a document unless a newer one is there, or the same and confirmed
// later. Versions are exact in Lua's numbers up to 2^53.
const putNewer = `
local have = redis.call('HMGET', KEYS[1], 'version', 'confirmed')
local version, confirmed = tonumber(have[1] or ''), tonumber(have[2] or '')
if version and confirmed and (version > tonumber(ARGV[1]) or version == tonumber(ARGV[1]) and confirmed >= tonumber(ARGV[2])) then
	return 0
end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'confirmed', ARGV[2], 'document', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1`

func (r *Redis) put(ctx context.Context, documents ...kept) error {
	return r.guarded(ctx, func(ctx context.Context, client *redis.Client) error {
		_, err := client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for _, k := range documents {
				r.queuePut(ctx, pipe, k)
			}
			return nil
		})
		return err
	})
}

func (r *Redis) queuePut(ctx context.Context, pipe redis.Pipeliner, k kept) {
	pipe.Eval(ctx, putNewer, []string{documentsPrefix + k.Path}, k.Version, k.Confirmed.UnixMilli(), k.Document, r.staleFor.Milliseconds())
}
