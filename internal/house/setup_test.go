package house

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// machine is a folder of stand-ins for the system's package tools, the only
// commands that a setup program finds besides the plain ones: tests must not
// install anything. The stand-ins write their arguments into the file "log".
type machine struct{ folder string }

func newMachine(t *testing.T, tools map[string]string) machine {
	t.Helper()
	m := machine{folder: t.TempDir()}
	for _, plain := range []string{"bash", "env", "id", "mktemp", "rm", "cat", "awk", "sort", "head", "dirname", "sed", "printf"} {
		target, err := exec.LookPath(plain)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(m.folder, plain)); err != nil {
			t.Fatal(err)
		}
	}
	for name, script := range tools {
		content := "#!/bin/bash\necho \"" + name + " $*\" >> " + m.folder + "/log\n" + script
		if err := os.WriteFile(filepath.Join(m.folder, name), []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// run gives a program's words, whether it went well, and what it called.
func (m machine) run(t *testing.T, program string, args ...string) (said string, ok bool, called string) {
	t.Helper()
	path, err := filepath.Abs(program)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), path, args...)
	command.Env = []string{"PATH=" + m.folder, "TMPDIR=" + t.TempDir()}
	output, err := command.CombinedOutput()
	log, _ := os.ReadFile(filepath.Join(m.folder, "log")) // no call, no log
	return string(output), err == nil, string(log)
}

// Of the packages that a test asks for, the one called "there" is installed.
const dpkgQuery = `[ "${@: -1}" = there ] && printf installed || exit 1` + "\n"

func TestInstall(t *testing.T) {
	const root = "sudo" // what stands before apt-get for somebody else than root
	for _, test := range []struct {
		name     string
		packages string
		tools    map[string]string
		ok       bool
		says     string
		aptGet   []string // the subcommands of apt-get, in order
	}{
		{
			"nothing is missing", "there", map[string]string{"dpkg-query": dpkgQuery, "apt-get": ""},
			true, "", nil,
		},
		{
			"only what is missing is installed", "there new", map[string]string{"dpkg-query": dpkgQuery, "apt-get": "", root: `exec "$@"`},
			true, "Installing Debian packages: new\n", []string{"install"},
		},
		{
			"the package lists are fetched when needed", "new",
			map[string]string{"dpkg-query": dpkgQuery, root: `exec "$@"`, "apt-get": `here=${BASH_SOURCE%/*}
case "$*" in *update*) echo > "$here/updated" ;; *) [ -e "$here/updated" ] ;; esac` + "\n"},
			true, "Installing Debian packages: new\n", []string{"install", "update", "install"},
		},
		{
			"what cannot be installed", "new", map[string]string{"dpkg-query": dpkgQuery, root: `exec "$@"`, "apt-get": "echo E: no such package; exit 100\n"},
			false, "E: no such package\napt-get could not install new; its own words are above.\n", []string{"install", "update"},
		},
		{
			"not a Debian", "new", nil,
			false, "This is not Debian or one of its kin", nil,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			said, ok, called := newMachine(t, test.tools).run(t, "install", strings.Fields(test.packages)...)
			if ok != test.ok || !strings.Contains(said, test.says) || (test.says == "" && said != "") {
				t.Errorf("it went well: %v, want %v; it said %q, want %q", ok, test.ok, said, test.says)
			}
			var subcommands []string
			for line := range strings.Lines(called) {
				if strings.HasPrefix(line, "apt-get ") {
					for _, word := range strings.Fields(line) {
						if word == "install" || word == "update" {
							subcommands = append(subcommands, word)
						}
					}
				}
			}
			if strings.Join(subcommands, " ") != strings.Join(test.aptGet, " ") {
				t.Errorf("apt-get was called for %q, want %q", subcommands, test.aptGet)
			}
		})
	}
}

func TestRequireGo(t *testing.T) {
	oldOnly := ` golang-go | 2:1.19~1 | http://deb.debian.org/debian bookworm/main amd64 Packages`
	backports := ` golang-go | 2:9.26~2~bpo12+1 | http://deb.debian.org/debian bookworm-backports/main amd64 Packages`
	for _, test := range []struct {
		name      string
		tools     map[string]string
		ok        bool
		says      string
		installed string
	}{
		{"new enough", map[string]string{"go": "echo go9.1.2\n"}, true, "", ""},
		{"too old, and Debian's too", map[string]string{"go": "echo go1.19.8\n", "apt-cache": "echo '" + oldOnly + "'\n"}, false, "or newer; found: 1.19.8. Debian 12's own is too old", ""},
		{"cannot fetch the newer one", map[string]string{"go": `[ "${GOTOOLCHAIN:-}" = local ] && echo go1.22.1` + "\n"}, false, "found: 1.22.1", ""},
		{"none at all", nil, false, "found: none", ""},
		{
			"none, but a suite has one",
			map[string]string{"apt-cache": "echo '" + oldOnly + "'; echo '" + backports + "'\n", "apt-get": "", "sudo": `exec "$@"`},
			true, "Installing Go 9.26~2~bpo12+1 from bookworm-backports\n", "install --target-release bookworm-backports golang-go",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			said, ok, called := newMachine(t, test.tools).run(t, "require-go")
			if ok != test.ok || !strings.Contains(said, test.says) {
				t.Errorf("it went well: %v, want %v; it said %q, want %q", ok, test.ok, said, test.says)
			}
			if !strings.Contains(called, test.installed) {
				t.Errorf("it called %q, want %q", called, test.installed)
			}
		})
	}
}
