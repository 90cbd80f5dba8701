package terraform_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"lightcone/capacity"
)

const (
	usableRelease  = `release={url="https://example.net/lightcone.tar.gz",sha256="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}`
	usableRate     = "rate=10000"
	usableCPUTime  = "cpu_ms_per_call=100"
	demandFile     = "demand.tf"
	sizingFile     = "sizing.tf"
	variablesFile  = "variables.tf"
	schedulingFile = "scheduling.tf"
	usualFunctions = `functions={resize={slots=2,cold_start=5,floor=0,cpu=2000,memory_max=4096},thumbs={floor=2,ceiling=9,executable="/opt/thumbs",memory=300}}`
)

// demands are the ones that say something, and some that chance drew.
func demands() []capacity.Demand {
	with := func(change func(*capacity.Demand)) capacity.Demand {
		d := capacity.Example()
		change(&d)
		return d
	}
	cases := []capacity.Demand{
		capacity.Example(),
		with(func(d *capacity.Demand) { d.Headroom = 0 }),
		with(func(d *capacity.Demand) { d.CallsPerSecond = 1 }),
		with(func(d *capacity.Demand) { d.Racks = 1 }),
		with(func(d *capacity.Demand) { d.Racks, d.Headroom = 5, 0.25 }),
		with(func(d *capacity.Demand) { d.ServerMemoryMB = 1280 }),
		with(func(d *capacity.Demand) { d.ServerMemoryMB = 33 * 80 }),
		with(func(d *capacity.Demand) { d.BodyInKB, d.Racks = 10_000, 1 }),
		with(func(d *capacity.Demand) { d.BodyInKB, d.BodyOutKB = 0, 0 }),
		with(func(d *capacity.Demand) { d.QueueShare, d.SlotMemoryMB, d.PricePerServerMonth = 0.3, 0, 900 }),
		with(func(d *capacity.Demand) { // 1.1 × 10 is a little more than 11 in binary
			d.CallsPerSecond, d.CPUMillis, d.CoresPerServer, d.Headroom, d.Racks, d.BodyInKB = 1000, 10, 1, 0.1, 1, 0
		}),
	}
	drawn := rapid.Custom(func(t *rapid.T) capacity.Demand {
		// To a thousandth: what is printed is what Terraform reads.
		number := func(least, most float64) float64 {
			return math.Round(rapid.Float64Range(least, most).Draw(t, "number")*1000) / 1000
		}
		whole := func(least, most int) int { return rapid.IntRange(least, most).Draw(t, "whole") }
		return capacity.Demand{
			CallsPerSecond: number(0.01, 1e5), CPUMillis: number(0.01, 1000), CoresPerServer: whole(1, 128),
			Headroom: number(0, 2), Racks: whole(1, 12), BodyInKB: number(0, 5000), BodyOutKB: number(0, 5000),
			SlotMemoryMB: number(0, 500), ServerMemoryMB: float64(whole(0, 1) * 64_000), NetworkGbps: number(1, 100),
			GatewayCPUMillis: number(0.01, 5), GatewayCores: whole(1, 64), QueueShare: number(0, 1), QueueReplicas: whole(1, 5),
			PricePerCoreHour: number(0, 1), PricePerServerMonth: float64(whole(0, 1) * 500), PricePerGB: number(0, 1),
		}
	})
	for seed := range 60 {
		cases = append(cases, drawn.Example(seed))
	}
	return cases
}

// asModule is a demand as arguments of a module.
func asModule(d capacity.Demand) map[string]any {
	return map[string]any{
		"rate": d.CallsPerSecond, "cpu_ms_per_call": d.CPUMillis, "cores_per_server": d.CoresPerServer, "headroom": d.Headroom,
		"racks": d.Racks, "body_in_kb": d.BodyInKB, "body_out_kb": d.BodyOutKB, "slot_memory_mb": d.SlotMemoryMB,
		"server_memory_mb": d.ServerMemoryMB, "network_gbps": d.NetworkGbps, "gateway_cpu_ms_per_call": d.GatewayCPUMillis,
		"gateway_cores": d.GatewayCores, "queue_share": d.QueueShare, "queue_replicas": d.QueueReplicas,
		"prices": map[string]any{"core_hour": d.PricePerCoreHour, "server_month": d.PricePerServerMonth, "gb_out": d.PricePerGB},
	}
}

// All demands go through one plan: the module's arithmetic, once for each.
func TestSizingIsCapacitys(t *testing.T) {
	tf := newTerraform(t, "testdata/sizing")
	copyFiles(t, ".", filepath.Join(tf.folder, "sizing"), demandFile, sizingFile)
	cases := demands()
	asked := make(map[string]any)
	for i, d := range cases {
		asked[fmt.Sprint(i)] = asModule(d)
	}
	// The module's defaults are the example's: the first case leaves them out.
	asked["0"] = map[string]any{"rate": cases[0].CallsPerSecond, "cpu_ms_per_call": cases[0].CPUMillis}
	content, err := json.Marshal(asked)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tf.folder, "demands.json"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	tf.must(t, "get")
	tf.must(t, "plan", "-out=planned")
	var got map[string]map[string]any
	if err := json.Unmarshal(tf.show(t).PlannedValues.Outputs["sizings"].Value, &got); err != nil {
		t.Fatal(err)
	}
	for i, d := range cases {
		sizing, err := capacity.Plan(d)
		if err != nil {
			t.Fatalf("%+v: %v", d, err)
		}
		want := asMap(t, sizing)
		delete(want, "because") // Terraform does not say it
		for name, value := range want {
			if !alike(got[fmt.Sprint(i)][name], value) {
				t.Errorf("%+v: %s is %v, want %v", d, name, got[fmt.Sprint(i)][name], value)
			}
		}
		if len(got[fmt.Sprint(i)]) != len(want) {
			t.Errorf("it has %d figures, want %d", len(got[fmt.Sprint(i)]), len(want))
		}
	}
}

func asMap(t *testing.T, value any) (found map[string]any) {
	t.Helper()
	content, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, &found); err != nil {
		t.Fatal(err)
	}
	return found
}

// alike compares numbers but for rounding errors, and the rest as it is.
func alike(a, b any) bool {
	x, isNumber := a.(float64)
	y, both := b.(float64)
	if !isNumber || !both {
		return a == b
	}
	return math.Abs(x-y) <= 1e-9*max(math.Abs(x), math.Abs(y))
}

func TestUnusableVariables(t *testing.T) {
	for _, test := range []struct{ variable, says string }{
		{"rate=0", "The rate must be more than 0"},
		{"cpu_ms_per_call=-1", "The CPU time per call must be more than 0"},
		{"cores_per_server=1.5", "The cores per server must be a whole number"},
		{"headroom=20", "The headroom must be a fraction of the demand from 0 to 10; 0.2 is 20 %."},
		{"racks=0", "The number of racks must be a whole number from 1 to 1000."},
		{"body_in_kb=-1", "The body in must be"},
		{"body_out_kb=-1", "The body out must be"},
		{"slot_memory_mb=-1", "The memory of a slot must be"},
		{"server_memory_mb=-1", "The memory of a server must be 0 to"},
		{"server_memory_mb=159", "must have room for a slot and the spare"},
		{"network_gbps=0", "The network of a server must be"},
		{"gateway_cpu_ms_per_call=0", "The gateway's CPU time per call must be"},
		{"gateway_cores=0", "The cores per gateway must be"},
		{"queue_share=2", "The queue's share must be 0 to 1"},
		{"queue_replicas=0", "The queue's replicas must be"},
		{"prices={core_hour=-1}", "The prices must each be"},
		{"nomad_address=localhost", "The Nomad address must be a URL"},
		{"consul_address=http://h/ui", "The Consul address must be a URL"},
		{"datacenters=[]", "The datacenters must be at least one"},
		{`release={url="lightcone.zip",sha256="` + strings.Repeat("0", 64) + `"}`, "The release's url must be"},
		{`release={url="https://h/l.tar.gz",sha256="abc"}`, "The release's sha256 must be 64 hexadecimal digits"},
		{"functions={}", "The functions must be at least one"},
		{`functions={Resize={}}`, "with names of at most 16 lower-case"},
		{"functions={resize={floor=3,ceiling=2}}", "ceiling at least 1 and no fewer than"},
		{"functions={resize={floor=0}}", "must have a cold_start"},
		{`functions={own={executable="bin/own"}}`, "must be an absolute path"},
		{`scheduling={zero_after="soon"}`, "must be durations, such as 30s or 1m30s."},
		{"functions={resize={slots=0}}", "The slots of each function must be"},
		{"gateways=0", "The gateways must be a whole number from 1 to 1000, or null"},
		{"gateway_memory_mb=1", "The memory of a gateway must be at least 128 MB."},
		{"max_wait=long", "The max_wait must be a duration"},
		{"front_door={port=80}", "The front door's ports must be two different ones"},
		{"front_door={count=0}", "The front door must have at least 1 load balancer"},
		{"redis={memory=32}", "The memory of a Redis server must be at least 64 MB"},
		{"redis={port=26379}", "The ports of Redis and its Sentinels must be two different ones"},
		{"queue={store_mb=10}", "The queue must have at least 256 MB of disk"},
		{"queue={keep_hours=0}", "The queue must keep results for a whole number of hours"},
		{`callbacks={allowed=["10.1.0.0"]}`, "The networks of callbacks must each be one such as"},
		{`callbacks={forbidden=["example.com/24"]}`, "The networks of callbacks must each be one such as"},
		{"racks=2", "The queue must have three racks"},
		{"identity={count=1.5}", "The instances of the management plane must be a whole number from 1 to 7."},
		{"schedulers=0", "The schedulers must be a whole number from 1 to 7."},
		{"bulk={shares=0}", "The bulk shares must be 1 to 1000"},
		{`usage={bucket="/a/folder"}`, "The bucket of usage must be a URL"},
		{`usage={bucket="s3://usage?region=x",prices="prices.json"}`, "The prices must be the text of a price list"},
		{`usage={prices="{\"versions\":[]}"}`, "name its bucket, too"},
		{`store={server_url="http://r/versitygw.tar.gz",server_sha256="abc"}`, "64 hexadecimal digits"},
	} {
		t.Run(test.variable, func(t *testing.T) {
			t.Parallel()
			tf := newTerraform(t, "testdata/sizing/empty")
			copyFiles(t, ".", tf.folder, demandFile, sizingFile, variablesFile, schedulingFile)
			name, _, _ := strings.Cut(test.variable, "=")
			arguments := []string{"-var=" + test.variable}
			for _, usable := range []string{usableRate, usableCPUTime, usableRelease} {
				if !strings.HasPrefix(usable, name+"=") {
					arguments = append(arguments, "-var="+usable)
				}
			}
			said, code := tf.run(t, "plan", arguments...)
			if sentence := strings.Join(strings.Fields(strings.ReplaceAll(said, "│", "")), " "); code == 0 || !strings.Contains(sentence, test.says) {
				t.Errorf("exit code %d, want %q in\n%s", code, test.says, said)
			}
		})
	}
}

// Nomad parses the real specifications with what the module gives them.
func plansTheRealJobs(t *testing.T, n nomad) {
	tf := newTerraform(t, ".", "-var=nomad_address="+n.address, "-var="+usableRate, "-var="+usableCPUTime, "-var="+usableRelease)
	tf.must(t, "validate")
	tf.must(t, "plan", "-out=planned", "-var="+usualFunctions, `-var=scheduling={zero_after="1m",backlog_age="5s"}`,
		`-var=usage={bucket="s3://usage?region=eu-central-1",prices="{\"versions\":[]}",volume="disk"}`,
		`-var=store={server_url="http://r/versitygw.tar.gz",server_sha256="`+strings.Repeat("0", 64)+`",port=7071}`)
	saved := tf.show(t)
	var addresses []string
	for _, change := range saved.ResourceChanges {
		addresses = append(addresses, change.Address)
		if !slices.Equal(change.Change.Actions, []string{"create"}) {
			t.Errorf("%s: %s", change.Address, change.Change.Actions)
		}
	}
	slices.Sort(addresses)
	want := []string{`nomad_job.billing["asked"]`, `nomad_job.billing["hourly"]`, "nomad_job.front_door", "nomad_job.gateway", "nomad_job.identity", "nomad_job.queue[0]", "nomad_job.redis[0]", "nomad_job.resize_bulk", "nomad_job.scheduler", "nomad_job.store[0]", `nomad_job.worker["resize"]`, `nomad_job.worker["thumbs"]`}
	if !slices.Equal(addresses, want) {
		t.Errorf("it plans %q, want %q", addresses, want)
	}
	variables := make(map[string]map[string]any)
	for _, change := range saved.ResourceChanges {
		variables[change.Address] = change.Change.After["hcl2"].([]any)[0].(map[string]any)["vars"].(map[string]any)
	}
	for _, test := range []struct{ address, variable, value string }{
		{`nomad_job.worker["resize"]`, "floor", "0"},
		{`nomad_job.worker["resize"]`, "ceiling", "40"},
		{`nomad_job.worker["resize"]`, "memory", "304"},
		{`nomad_job.worker["resize"]`, "cpu", "2000"},
		{`nomad_job.worker["thumbs"]`, "function", "thumbs=/opt/thumbs"},
		{`nomad_job.worker["thumbs"]`, "slots", "32"},
		{"nomad_job.gateway", "count", "4"},
		{"nomad_job.gateway", "functions", "resize:cold=5s,thumbs"},
		{"nomad_job.gateway", "datacenters", `["*"]`},
		{"nomad_job.scheduler", "policies", `[{"backlog_age":"5s","ceiling":40,"floor":0,"function":"resize","slots_per_worker":2,"zero_after":"1m"},{"backlog_age":"5s","ceiling":9,"floor":2,"function":"thumbs","slots_per_worker":32,"zero_after":"1m"}]`},
		{"nomad_job.front_door", "bind", `["*"]`},
		{"nomad_job.gateway", "redis_service", "redis-sentinel"},
		{"nomad_job.gateway", "queue_service", "queue"},
		{"nomad_job.gateway", "queue_keep", "24h"},
		{"nomad_job.gateway", "usage_bucket", "s3://usage?region=eu-central-1"},
		{`nomad_job.worker["resize"]`, "usage_bucket", "s3://usage?region=eu-central-1"},
		{"nomad_job.gateway", "usage_volume", "disk"},
		{`nomad_job.worker["resize"]`, "usage_volume", "disk"},
		{"nomad_job.store[0]", "port", "7071"},
		{"nomad_job.store[0]", "volume", "store"},
		{`nomad_job.worker["resize"]`, "queue_service", "queue"},
		{`nomad_job.worker["resize"]`, "redis_service", "redis-sentinel"},
		{"nomad_job.queue[0]", "store", "10240"},
		{"nomad_job.queue[0]", "keep", "24h"},
		{"nomad_job.redis[0]", "memory", "256"},
		{"nomad_job.identity", "count", "2"},
		{"nomad_job.identity", "redis_service", "redis-sentinel"},
		{"nomad_job.resize_bulk", "shares", "3"},
		{`nomad_job.billing["hourly"]`, "usage_bucket", "s3://usage?region=eu-central-1"},
		{`nomad_job.billing["hourly"]`, "when", "hourly"},
		{`nomad_job.billing["asked"]`, "prices", `{"versions":[]}`},
		{`nomad_job.billing["asked"]`, "when", "asked"},
		{`nomad_job.billing["asked"]`, "shares", "3"},
	} {
		if got := variables[test.address][test.variable]; got != test.value {
			t.Errorf("%s: %s is %v, want %s", test.address, test.variable, got, test.value)
		}
	}
	for name, value := range map[string]string{
		"front_door_urls": `["http://127.0.0.1:8080"]`, "consul_ui": `"http://127.0.0.1:8500/ui"`, "nomad_ui": `"` + n.address + `/ui"`, "operator_url": `"http://127.0.0.1:8404"`,
		"management_url": `"http://127.0.0.1:8404"`,
	} {
		if got := string(saved.PlannedValues.Outputs[name].Value); got != value {
			t.Errorf("output %s is %s, want %s", name, got, value)
		}
	}
}
