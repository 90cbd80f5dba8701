// Command drill makes calls through gateways that are killed again and again, and that
// bring their usage records to a store which fails half of all requests. Then it has
// the calls billed and reconciled, and judges: no call whose answer a client got may be
// lost, and none stored or billed twice. It prints a table, and fails when it finds a
// fault.
//
// Invariants: gateways, workers, the management plane, billing and reconciliation are
// the executables that a region runs, and Consul and the S3 server are real; only the
// store's failing is made, by a proxy before it. What clients heard is compared with
// what lies in the bucket, id by id, without the code that bills and reconciles. All
// that it started ends with it.
//
// It does not measure speed (bench does), cuts no power (a killed process loses what
// the kernel has not; a lost machine is another matter), and drills neither queued calls
// (queue/drill does) nor a whole region (cluster does).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lightcone/internal/run"
	"lightcone/usage/store"
)

func main() {
	ctx, release := run.UntilSignal(context.Background())
	err := act(ctx, os.Args[1:], os.Stdout)
	release()
	if err != nil {
		fmt.Fprintln(os.Stderr, "drill:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	calls, kills int
	seed         uint64
	bin, prices  string
	dir          string
}

func act(ctx context.Context, args []string, say io.Writer) error {
	var o options
	flags := flag.NewFlagSet("drill", flag.ContinueOnError)
	flags.IntVar(&o.calls, "calls", 200_000, "how many calls to make")
	flags.IntVar(&o.kills, "kills", 60, "how often a gateway, or now and then a worker, is killed meanwhile")
	flags.Uint64Var(&o.seed, "seed", rand.Uint64(), "of what is drawn: which requests fail, who is killed, what is sent")
	flags.StringVar(&o.bin, "bin", "bin", "folder with the executables")
	flags.StringVar(&o.prices, "prices", "usage/billing/prices.json", "price list")
	flags.StringVar(&o.dir, "dir", "", "folder for all that is kept and logged; removed unless something failed (default: a new one)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.calls < 1 || o.kills < 0 || o.kills > o.calls || flags.NArg() > 0 {
		return fmt.Errorf("-calls %d -kills %d %s: want at least one call, at most a kill for each, and no arguments", o.calls, o.kills, strings.Join(flags.Args(), " "))
	}
	if o.dir == "" {
		var err error
		if o.dir, err = os.MkdirTemp(filepath.Dir(folderPrefix()), filepath.Base(folderPrefix())); err != nil {
			return err
		}
	}
	err := o.drill(ctx, say)
	if ctx.Err() != nil {
		err = ctx.Err() // all else follows from it
	} else if err != nil {
		return fmt.Errorf("%w\nwhat was kept and logged is in %s", err, o.dir)
	}
	return errors.Join(err, os.RemoveAll(o.dir))
}

// folderPrefix begins the paths of all folders that this process makes.
func folderPrefix() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("lightcone-usagedrill-%d-", os.Getpid()))
}

// drill does all of it. Its error names every fault.
func (o options) drill(ctx context.Context, say io.Writer) (err error) {
	began := time.Now()
	for _, pair := range []string{"AWS_ACCESS_KEY_ID=" + accessKey, "AWS_SECRET_ACCESS_KEY=" + secretKey} { // for its own look at the bucket
		name, value, _ := strings.Cut(pair, "=")
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	fmt.Fprintf(say, "%d calls, %d kills, seed %d\n", o.calls, o.kills, o.seed)
	r, err := begin(ctx, o.dir, o.bin, o.seed)
	defer func() { err = errors.Join(err, r.end()) }()
	if err != nil {
		return err
	}
	// The drill itself looks past the proxy: what it sees must not depend on what fails.
	bucket, err := store.Open(ctx, r.bucketAt(r.s3))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bucket.Close()) }()

	t := table{started: time.Now()}
	if t.heard, t.killed, err = r.callAndKill(ctx, o); err != nil {
		return err
	}
	t.loaded = time.Now()
	fmt.Fprintf(say, "%d calls made in %.0f s; waiting until their records are in the bucket\n", o.calls, t.loaded.Sub(t.started).Seconds())
	hours := hoursOf(t.started, t.loaded)
	unsettled := r.settle(ctx, bucket, hours) // what is lacking then is judged as well
	e := evidence{answered: t.heard.answered, refused: t.heard.refused, unknown: t.heard.unknown}
	left, err := r.segments()
	if err != nil {
		return err
	}
	e.left = len(left)
	if e.records, t.objects, err = readRecords(ctx, bucket, hours); err != nil {
		return err
	}
	if e.bills, e.invoices, err = r.bill(ctx, bucket, o.prices, hours); err != nil {
		return err
	}
	if t.audited, err = r.audit(ctx, hours); err != nil {
		return err
	}
	e.audited, e.audit = t.audited, unexplained(t.audited.findings, t.killed.gateways)
	v := judge(e)
	t.took, t.fates = time.Since(began), r.store.met()
	t.print(say, e, v)
	return errors.Join(unsettled, v.err)
}

// callAndKill makes the calls while gateways and workers are killed.
func (r *region) callAndKill(ctx context.Context, o options) (heard, killed, error) {
	c := newCourse(o.calls)
	stopped := context.AfterFunc(ctx, c.halt)
	defer stopped()
	var kills killed
	var failure error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		kills, failure = r.kill(ctx, c, o.kills, rand.New(rand.NewPCG(o.seed, 2)))
	}()
	all, err := r.load(ctx, c, o.seed)
	<-ended
	if err = errors.Join(err, failure, ctx.Err()); err == nil && kills.gateways+kills.workers < o.kills {
		err = fmt.Errorf("only %d of %d kills were made", kills.gateways+kills.workers, o.kills)
	}
	return all, kills, err
}
