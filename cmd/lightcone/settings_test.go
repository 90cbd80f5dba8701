package main

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lightcone/cmd/internal/commandline"
	"lightcone/gateway"
	"lightcone/scheduler"
)

// told is a gateway's command that has been given a command line and an environment.
func told(t *testing.T, args []string, environment ...string) (gatewayFlags, error) {
	t.Helper()
	var flags gatewayFlags
	command := newGatewayCommand(&flags)
	if err := command.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	return flags, heedEnvironment(command, environment)
}

func TestFlagsGoBeforeTheEnvironment(t *testing.T) {
	var flags gatewayFlags
	command := newGatewayCommand(&flags)
	if err := command.ParseFlags([]string{"--max-wait", "3s", "--functions=echo"}); err != nil {
		t.Fatal(err)
	}
	err := heedEnvironment(command, []string{
		"LIGHTCONE_MAX_WAIT=1s", "LIGHTCONE_FUNCTIONS=not looked at", // given as flags
		"LIGHTCONE_MEMORY_MIB=300", "LIGHTCONE_VERBOSE=true", "LIGHTCONE_FLEET_KEY_FILE=/a=b",
		"LIGHTCONE_KEY=of `lightcone call`", "LIGHTCONE_SOCKET=of a function", "PATH=/bin", "XLIGHTCONE_LISTEN=",
	})
	if err != nil {
		t.Fatal(err)
	}
	if flags.maxWait != 3*time.Second || flags.functions != "echo" {
		t.Errorf("the environment overrode flags: %+v", flags)
	}
	if flags.memory != 300 || !flags.verbose || flags.fleetKeyFile != "/a=b" {
		t.Errorf("the environment was not heeded: %+v", flags)
	}
	if flags.listen != "127.0.0.1:8080" {
		t.Errorf("a default became %q", flags.listen)
	}
}

func TestSettingsThatAreWrongAreNamed(t *testing.T) {
	for _, test := range []struct{ setting, want string }{
		{"LIGHTCONE_MAXWAIT=1s", "LIGHTCONE_MAXWAIT is not a setting of `gateway`; want one of LIGHTCONE_CALLBACKS, LIGHTCONE_CALLBACK_ALLOW"},
		{"LIGHTCONE_HELP=true", "LIGHTCONE_HELP is not a setting"},
		{"LIGHTCONE_=1", "LIGHTCONE_ is not a setting"},
		{"LIGHTCONE_MAX_WAIT=soon", "the environment variable LIGHTCONE_MAX_WAIT: "},
		{"LIGHTCONE_MAX_WAIT=", "the environment variable LIGHTCONE_MAX_WAIT: "},
		{"LIGHTCONE_MEMORY_MIB=1GiB", "the environment variable LIGHTCONE_MEMORY_MIB: "},
		{"LIGHTCONE_VERBOSE=loud", "the environment variable LIGHTCONE_VERBOSE: "},
	} {
		command := newGatewayCommand(new(gatewayFlags))
		command.InitDefaultHelpFlag() // as Execute does
		if err := heedEnvironment(command, []string{test.setting}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q in it", test.setting, err, test.want)
		}
	}
}

// What the services say of themselves on the command line, before they start anything.
func TestServicesThatCannotStart(t *testing.T) {
	folder := t.TempDir()
	if err := makeKeys(folder); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(folder, name) }
	empty := write(t, at("empty"), " \n")
	keys := "--fleet-key-file " + at("fleet.key") + " --operator-key-file " + at("operator.key")
	redis := "gateway " + keys + " --redis-service redis-sentinel --redis-password-file "
	node := "queue --listen 127.0.0.1:2 --operator-key-file " + at("operator.key") + " --data " + at("queue") + " --queue-password-file " + at("queue.password") + " --route-password-file " +
		at("queue-route.password") + " --queue-ca-file " + at("queue-ca.pem") + " --certificate-file " + at("queue.pem") + " --key-file " + at("queue.key")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	taken := listener.Addr().String()
	t.Setenv("CONSUL_HTTP_ADDR", "127.0.0.1:1") // nobody is there
	for _, test := range []struct {
		args, setting string
		code          int
		stderr        string
	}{
		{"gateway now", "", commandline.NotUnderstood, `"now" is one too many`},
		{"gateway", "", commandline.NotUnderstood, "--operator-key-file (or LIGHTCONE_OPERATOR_KEY_FILE) is missing"},
		{"gateway", "LIGHTCONE_CALLERS=x", commandline.NotUnderstood, "LIGHTCONE_CALLERS is not a setting of `lightcone gateway`"},
		{redis + "/nonexistent", "", commandline.Failed, "--redis-password-file: read a secret"},
		{redis + at("redis.password") + " --sentinel-password-file " + empty, "", commandline.Failed, empty + " is empty"},
		{redis + at("redis.password") + " --sentinel-password-file " + at("sentinel.password") + " --redis-master=", "", commandline.Failed, "the master's name"},
		{node + " --seat A", "", commandline.NotUnderstood, `seat "A"`},
		{node + " --data=", "", commandline.NotUnderstood, "want one for what it keeps"},
		{node + " --store-mib 0", "", commandline.NotUnderstood, "a store of 0 bytes"},
		{node + " --peers a:1", "", commandline.NotUnderstood, "--route-listen (or LIGHTCONE_ROUTE_LISTEN) is missing"},
		{node + " --route-listen 127.0.0.1:1", "", commandline.NotUnderstood, "--peers and --peers-service: want one of them"},
		{node + " --route-listen 127.0.0.1:1 --peers a", "", commandline.NotUnderstood, `--peers: "a" is no address`},
		{node + " --route-listen 127.0.0.1:1 --peers a:1 --nodes 2", "", commandline.NotUnderstood, "a cluster of 2 nodes"},
		{node + " --route-listen 127.0.0.1:1 --peers a:1 --route-password-file " + empty, "", commandline.Failed, "--route-password-file: the file " + empty + " is empty"},
		{node + " --route-listen 127.0.0.1:1 --peers-service a.b", "", commandline.NotUnderstood, "--peers-service"},
		{node + " --certificate-file " + at("queue-ca.pem"), "", commandline.NotUnderstood, "the node's certificate and key"},
		{node + " --certificate-file " + at("queue-ca.pem") + " --key-file " + at("queue-ca.key"), "", commandline.NotUnderstood, "for somebody else"},
		{node + " --queue-ca-file " + empty, "", commandline.NotUnderstood, "no certificate in its PEM"},
		{node + " --queue-password-file /nonexistent", "", commandline.Failed, "--queue-password-file: read a secret"},
		{node + " --listen " + taken, "", commandline.Failed, "start the queue node"},
		{"gateway " + keys + " --tls-key-file " + at("fleet.key"), "", commandline.NotUnderstood, "--tls-certificate-file"},
		{"gateway " + keys + " --tls-certificate-file " + at("fleet.key") + " --tls-key-file " + at("fleet.key"), "", commandline.Failed, at("fleet.key")},
		{"identity", "", commandline.NotUnderstood, "--operator-key-file (or LIGHTCONE_OPERATOR_KEY_FILE) is missing"},
		{"identity --operator-key-file " + at("operator.key") + " --manage " + taken, "", commandline.Failed, "choose another address with --manage"},
		{"gateway " + keys + " --listen " + taken, "", commandline.Failed, "choose another address with --listen"},
		{"gateway " + keys + " --listen 127.0.0.1:0 --drain-delay 0s --manage " + taken, "", commandline.Failed, "choose another address with --manage"},
		{"gateway " + keys + " --max-wait -1s", "", commandline.NotUnderstood, "--max-wait"},
		{"gateway " + keys + " --memory-mib 1", "", commandline.NotUnderstood, "--memory-mib"},
		{"gateway " + keys + " --functions echo,echo", "", commandline.Failed, "function echo is declared twice"},
		{"gateway " + keys + " --functions echo,", "", commandline.NotUnderstood, "--functions echo,: function"},
		{"gateway " + keys + " --functions echo:warm=1s", "", commandline.NotUnderstood, "want NAME:cold=DURATION, such as echo:cold=10s"},
		{"worker --function x=/bin/true --operator-key-file " + empty, "", commandline.Failed, empty + " is empty"},
		{"worker --function x=/bin/true --operator-key-file " + at("fleet.key"), "", commandline.Failed, "--operator-key-file " + at("fleet.key")},
		{"worker --function x=/bin/true --fleet-key-file /nonexistent", "", commandline.Failed, "--fleet-key-file: read a secret"},
		{"worker --function x=/nonexistent", "", commandline.NotUnderstood, "--function x=/nonexistent: the executable"},
		{"worker --function x=/bin/true --slots 0 " + keys, "", commandline.NotUnderstood, "--slots 0: want 1 to 1024"},
		{"worker --function x=/bin/true --sockets here " + keys, "", commandline.Failed, "want an absolute path"},
		{"worker", "LIGHTCONE_SLOTS=many", commandline.NotUnderstood, "LIGHTCONE_SLOTS"},
		{"scheduler", "", commandline.NotUnderstood, "--policies (or LIGHTCONE_POLICIES) is missing"},
		{"scheduler --policies []", "", commandline.NotUnderstood, "--policies: no function is named"},
		{`scheduler --policies [{"function":"echo"}]`, "", commandline.NotUnderstood, "--operator-key-file"},
		{`scheduler --policies [{"function":"echo"}] --nomad nowhere ` + keys, "", commandline.Failed, `the Nomad address "nowhere"`},
		{`scheduler --policies [{"function":"echo"},{"function":"echo"}] ` + keys, "", commandline.Failed, "another policy has the function"},
		{`scheduler --policies [{"function":"echo"}] --every 1h ` + keys, "", commandline.Failed, "1h"},
	} {
		t.Run(test.args+test.setting, func(t *testing.T) {
			if name, value, set := strings.Cut(test.setting, "="); set {
				t.Setenv(name, value)
			}
			if code, _, stderr := runCommand(t, "", strings.Fields(test.args)...); code != test.code || !strings.Contains(stderr, test.stderr) {
				t.Errorf("exit code %d, want %d; it said %q, want %q in it", code, test.code, stderr, test.stderr)
			}
		})
	}
}

func TestDeclaredFunctions(t *testing.T) {
	flags, err := told(t, nil, "LIGHTCONE_FUNCTIONS=resize,shout:cold=1m30s", "LIGHTCONE_MEMORY_MIB=256", "LIGHTCONE_DRAIN_DELAY=0s")
	if err != nil {
		t.Fatal(err)
	}
	config, declared, err := flags.config()
	if err != nil {
		t.Fatal(err)
	}
	shout := ownLimits
	shout.Name = "shout"
	want := []gateway.Declared{{Spec: resizeLimits}, {Spec: shout, ColdStart: 90 * time.Second}}
	if diff := cmp.Diff(want, declared); diff != "" {
		t.Error(diff)
	}
	if config.MaxBytesInFlight != 256*mebibyte/3 || config.DrainDelay != 0 || config.MaxWait != gateway.DefaultConfig().MaxWait {
		t.Errorf("got %+v", config)
	}
	for _, broken := range []string{"", ",", "Echo", "echo:", "echo:cold", "echo:cold=0s", "echo:cold=-1s", "echo:cold=1", "echo cold=1s"} {
		if _, err := declaredFunctions(broken); err == nil {
			t.Errorf("%q was accepted", broken)
		}
	}
}

func TestPolicies(t *testing.T) {
	got, err := parsePolicies(`[
		{"function": "resize"},
		{"function": "echo", "floor": 0, "ceiling": 7, "slots_per_worker": 2, "headroom": 0.5, "stable_window": "40s",
		 "panic_window": "4s", "up_cool_down": "0s", "down_cool_down": "1m", "zero_after": "2m", "backlog_age": "0s"}]`)
	if err != nil {
		t.Fatal(err)
	}
	whole := scheduler.DefaultPolicy("echo", "worker-echo", "worker")
	whole.Floor, whole.Ceiling, whole.SlotsPerWorker, whole.Headroom = 0, 7, 2, 0.5
	whole.StableWindow, whole.PanicWindow = 40*time.Second, 4*time.Second
	whole.UpCoolDown, whole.DownCoolDown, whole.ZeroAfter, whole.BacklogAge = 0, time.Minute, 2*time.Minute, 0
	want := []scheduler.Policy{scheduler.DefaultPolicy("resize", "worker-resize", "worker"), whole}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
