package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// section is the part of README below a heading, up to the next one.
func section(t *testing.T, heading string) string {
	t.Helper()
	readme := read(t, "../../README.md")
	_, text, found := strings.Cut(readme, "\n## "+heading+"\n")
	if !found {
		t.Fatalf("README has no section %q", heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

// TestReadmeTenants runs README's commands as they are written, in a network of
// their own where the usual ports are free.
func TestReadmeTenants(t *testing.T) {
	t.Parallel()
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(section(t, "Tenants, keys and limits"), -1)
	if len(blocks) != 1 {
		t.Fatalf("%d blocks of commands, want 1", len(blocks))
	}
	folder := t.TempDir()
	for link, to := range map[string]string{"bin": bin, "photo.jpg": photo} {
		if err := os.Symlink(to, filepath.Join(folder, link)); err != nil {
			t.Fatal(err)
		}
	}
	script := fmt.Sprintf(`set -eu
ip link set lo up
bin/lightcone dev > dev.log 2>&1 &
trap 'kill $!; wait $!' EXIT
for try in $(seq 200); do curl -fs -o /dev/null http://127.0.0.1:8080/readyz && break; sleep 0.1; done
set -x
%s
curl -sS -o answer -w 'revoked: %%{http_code}\n' -H "Authorization: Bearer $(cat acme.key)" --data-binary @photo.jpg http://127.0.0.1:8080/function/resize
`, blocks[0][1])
	command := exec.Command("unshare", "--net", "bash", "-c", script)
	command.Dir = folder
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said, errs bytes.Buffer
	command.Stdout, command.Stderr = &said, &errs
	err = command.Run()
	output := said.String()
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(folder, "dev.log")) // it may not have come to that
		t.Fatalf("%v\n%s\n%s\n%s", err, output, errs.String(), log)
	}
	for _, want := range []string{
		`(?m)^made tenant acme$`,
		`(?m)^200\n200\n429$`, `"quota":"calls_per_second"`,
		`(?m)^revoked key [a-z2-7]{16}$`, `(?m)^[a-z2-7]{16} +revoked +resize `,
		`(?m) tenant\.create +.*acme`, `(?m)^the audit trail is whole: \d+ entries,`,
		`(?m)^revoked: 401$`,
	} {
		if !regexp.MustCompile(want).MatchString(output) {
			t.Errorf("nothing like %s in\n%s", want, output)
		}
	}
	if key := strings.TrimSpace(read(t, filepath.Join(folder, "acme.key"))); strings.Contains(output, key) || strings.Contains(read(t, filepath.Join(folder, "dev.log")), key) {
		t.Error("the key was printed elsewhere than into its file")
	}
	if content := readBytes(t, filepath.Join(folder, "small.jpg")); imageSize(t, content).X != 300 {
		t.Errorf("small.jpg is %d pixels wide", imageSize(t, content).X)
	}
}
