package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lightcone/internal/testbed"
)

const (
	gatewayCount = 3
	workerCount  = 2
	workerSlots  = 2

	tenant   = "drill"
	function = "echo"

	accessKey = "lightcone"
	secretKey = "of-the-drill"
	s3Region  = "eu-central-1"
	bucket    = "usage"

	// startBound is how long a server may take to be ready, on a busy machine.
	startBound = time.Minute
	// endBound is how long a service may take to end in order: a gateway has 10 s for
	// records that are not in the bucket, after its calls.
	endBound = time.Minute
)

// region is what the drill starts: Consul, an S3 server behind a failing proxy, the
// management plane, workers and gateways.
type region struct {
	dir, bin  string
	sockets   []string // folders of the workers' processes
	consul    string   // address
	manage    string   // of the management plane
	s3        string   // of the S3 server
	store     *failingStore
	proxied   string // its address
	key       string // of the tenant
	gateways  []*service
	workers   []*service
	processes []*process // the others
}

// service is a gateway or a worker: one that can be killed, and started again on
// what it has kept.
type service struct {
	*process
	region *region
	name   string
	listen string
	args   []string
}

// begin starts all of the region. What was started is to be ended also after an error.
func begin(ctx context.Context, dir, bin string, seed uint64) (*region, error) {
	r := &region{dir: dir, bin: bin}
	ports, err := testbed.FreePorts(7 + 2*(gatewayCount+workerCount))
	if err != nil {
		return r, err
	}
	next := func() string {
		address := fmt.Sprintf("127.0.0.1:%d", ports[0])
		ports = ports[1:]
		return address
	}
	r.consul, r.manage, r.s3, r.proxied = next(), next(), next(), next()
	if err := r.startConsul(ctx, next(), next()); err != nil {
		return r, err
	}
	if err := r.startStore(ctx, seed); err != nil {
		return r, err
	}
	if err := r.admit(ctx); err != nil {
		return r, err
	}
	for i := range workerCount {
		sockets := folderPrefix() + fmt.Sprint(i) // not below dir: functions run as nobody, who must reach it
		r.sockets = append(r.sockets, sockets)
		r.workers = append(r.workers, r.service("worker", i, next(), next(), "--function", function, "--slots", fmt.Sprint(workerSlots), "--sockets", sockets))
	}
	for i := range gatewayCount {
		r.gateways = append(r.gateways, r.service("gateway", i, next(), next(), "--functions", function, "--drain-delay", "100ms",
			"--usage-dir", r.ledger(i), "--usage-bucket", r.bucketAt(r.proxied), "--usage-node", nodeOf(i)))
	}
	for _, s := range append(r.workers, r.gateways...) {
		if err := s.begin(); err != nil {
			return r, err
		}
	}
	for i, w := range r.workers {
		if err := errors.Join(w.ready(ctx), r.enlist(ctx, i, w.listen)); err != nil {
			return r, err
		}
	}
	for _, g := range r.gateways {
		if err := g.ready(ctx); err != nil {
			return r, err
		}
	}
	return r, nil
}

// end kills whatever still runs, and removes what lies outside of the drill's folder.
func (r *region) end() error {
	for _, s := range append(r.gateways, r.workers...) {
		if s.process != nil {
			s.kill()
		}
	}
	for _, p := range r.processes {
		p.kill()
	}
	var failed []error
	if r.store != nil {
		failed = append(failed, r.store.stop())
	}
	for _, folder := range r.sockets {
		failed = append(failed, os.RemoveAll(folder))
	}
	return errors.Join(failed...)
}

func nodeOf(i int) string                { return fmt.Sprintf("gw-%d", i) }
func (r *region) ledger(i int) string    { return filepath.Join(r.dir, "ledger-"+nodeOf(i)) }
func (r *region) log(name string) string { return filepath.Join(r.dir, name+".log") }
func (r *region) lightcone() string      { return filepath.Join(r.bin, "lightcone") }
func (r *region) keys(name string) string {
	return filepath.Join(r.dir, "keys", name)
}

// bucketAt is the bucket's URL, as the S3 server at an address has it.
func (r *region) bucketAt(address string) string {
	return "s3://" + bucket + "?" + url.Values{"region": {s3Region}, "endpoint": {"http://" + address}, "use_path_style": {"true"}}.Encode()
}

// credentials are those of the S3 server, as the AWS client finds them.
func credentials() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + accessKey, "AWS_SECRET_ACCESS_KEY=" + secretKey}
}

// startConsul starts a Consul that keeps all in memory.
func (r *region) startConsul(ctx context.Context, server, gossip string) error {
	program, err := agent(ctx, "consul")
	if err != nil {
		return err
	}
	port := func(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }
	consul, err := start("consul", r.log("consul"), nil, program, "agent", "-dev", "-bind", "127.0.0.1", "-log-level", "warn",
		"-http-port", port(r.consul), "-server-port", port(server), "-serf-lan-port", port(gossip),
		"-serf-wan-port", "-1", "-dns-port", "-1", "-grpc-port", "-1", "-grpc-tls-port", "-1")
	if err != nil {
		return err
	}
	r.processes = append(r.processes, consul)
	return consul.await(ctx, startBound, "Consul has a leader", func() bool {
		return statusOf(ctx, "http://"+r.consul+"/v1/kv/nothing?consistent") == http.StatusNotFound
	})
}

// startStore starts an S3 server with an empty bucket, and the failing proxy before it.
func (r *region) startStore(ctx context.Context, seed uint64) error {
	program, err := agent(ctx, "versitygw")
	if err != nil {
		return err
	}
	buckets, attributes := filepath.Join(r.dir, "buckets"), filepath.Join(r.dir, "attributes")
	if err := errors.Join(os.MkdirAll(filepath.Join(buckets, bucket), 0o700), os.MkdirAll(attributes, 0o700)); err != nil {
		return err
	}
	server, err := start("versitygw", r.log("versitygw"), nil, program, "--access", accessKey, "--secret", secretKey, "--region", s3Region,
		"--port", r.s3, "--health", "/health", "--quiet", "posix", "--sidecar", attributes, buckets)
	if err != nil {
		return err
	}
	r.processes = append(r.processes, server)
	if err := server.await(ctx, startBound, "the S3 server answers", func() bool { return statusOf(ctx, "http://"+r.s3+"/health") == http.StatusOK }); err != nil {
		return err
	}
	r.store, err = startFailingStore(r.proxied, r.s3, seed)
	return err
}

// admit starts the management plane and makes the tenant and its key.
func (r *region) admit(ctx context.Context) error {
	if err := r.must(ctx, nil, "keys", "--out", r.keys("")); err != nil {
		return err
	}
	plane, err := start("identity", r.log("identity"), []string{"CONSUL_HTTP_ADDR=" + r.consul}, r.lightcone(), "identity",
		"--manage", r.manage, "--operator-key-file", r.keys("operator.key"))
	if err != nil {
		return err
	}
	r.processes = append(r.processes, plane)
	if err := plane.await(ctx, startBound, "it is ready", func() bool { return statusOf(ctx, "http://"+r.manage+"/readyz") == http.StatusOK }); err != nil {
		return err
	}
	operator := []string{"LIGHTCONE_MANAGE_URL=http://" + r.manage, "LIGHTCONE_OPERATOR_KEY_FILE=" + r.keys("operator.key")}
	if err := r.must(ctx, operator, "tenant", "create", tenant); err != nil {
		return err
	}
	said, complaint, code, err := output(ctx, operator, r.lightcone(), "key", "create", tenant, "--scope", function)
	if err == nil && code != 0 {
		err = fmt.Errorf("lightcone key create: %s", complaint)
	}
	r.key = strings.TrimSpace(said)
	return err
}

// must runs a command of lightcone's that has to go well.
func (r *region) must(ctx context.Context, environment []string, args ...string) error {
	_, complaint, code, err := output(ctx, environment, r.lightcone(), args...)
	if err == nil && code != 0 {
		err = fmt.Errorf("lightcone %s: %s", strings.Join(args, " "), complaint)
	}
	return err
}

// service describes a gateway or a worker.
func (r *region) service(kind string, i int, listen, manage string, args ...string) *service {
	return &service{region: r, name: fmt.Sprintf("%s-%d", kind, i), listen: listen, args: append([]string{
		kind, "--listen", listen, "--manage", manage, "--operator-key-file", r.keys("operator.key"), "--fleet-key-file", r.keys("fleet.key"),
	}, args...)}
}

// begin starts the service's process, for the first time or again.
func (s *service) begin() (err error) {
	environment := append(credentials(), "CONSUL_HTTP_ADDR="+s.region.consul)
	s.process, err = start(s.name, s.region.log(s.name), environment, s.region.lightcone(), s.args...)
	return err
}

// ready waits until the service takes calls.
func (s *service) ready(ctx context.Context) error {
	return s.await(ctx, startBound, "it takes calls", func() bool { return statusOf(ctx, "http://"+s.listen+"/readyz") == http.StatusOK })
}

// enlist tells Consul of a worker, as Nomad would.
func (r *region) enlist(ctx context.Context, i int, address string) error {
	host, port, _ := strings.Cut(address, ":")
	service, err := json.Marshal(map[string]any{"ID": fmt.Sprintf("worker-%d", i), "Name": "worker-" + function, "Address": host, "Port": json.Number(port)})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+r.consul+"/v1/agent/service/register", bytes.NewReader(service))
	if err != nil {
		return err
	}
	response, err := prober.Do(request)
	if err != nil {
		return err
	}
	if err := response.Body.Close(); err != nil || response.StatusCode != http.StatusOK {
		return errors.Join(fmt.Errorf("list a worker in Consul: %s", response.Status), err)
	}
	return nil
}

// prober asks servers how they are, each time over a new connection.
var prober = &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// statusOf is what a page answers with, and 0 when nothing does.
func statusOf(ctx context.Context, page string) int {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
	if err != nil {
		return 0
	}
	response, err := prober.Do(request)
	if err != nil {
		return 0
	}
	_ = response.Body.Close() // the status says enough
	return response.StatusCode
}

// agent is the path of a server's executable, which is built when the machine has none.
func agent(ctx context.Context, name string) (string, error) {
	said, complaint, code, err := output(ctx, nil, "internal/tools/agent", name)
	if err == nil && code != 0 {
		err = fmt.Errorf("find or build %s: %s", name, complaint)
	}
	return strings.TrimSpace(said), err
}
