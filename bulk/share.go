package bulk

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"lightcone"
)

// ShareOf says which of shares, counted from 0, an object's key belongs to: the
// first eight bytes of its SHA-256, modulo shares. It depends on nothing else, so
// shares agree without speaking to each other. shares is at least 1.
func ShareOf(key string, shares int) int {
	digest := sha256.Sum256([]byte(key))
	return int(binary.BigEndian.Uint64(digest[:8]) % uint64(shares))
}

// fingerprint stands for one finished piece of work: an input as it was listed,
// what was done to it, and what the result is called. 128 bits of SHA-256: two
// of a billion objects meet with probability 10^-21.
type fingerprint [16]byte

func (f fingerprint) String() string { return hex.EncodeToString(f[:]) }

func parseFingerprint(text string) (fingerprint, bool) {
	var f fingerprint
	n, err := hex.Decode(f[:], []byte(text[:min(len(text), 2*len(f))]))
	return f, err == nil && n == len(f) && len(text) == 2*len(f)
}

// work is what a job does to every object.
type work struct {
	function lightcone.FunctionName
	query    string // canonical: url.Values.Encode sorts by name
}

func workOf(function lightcone.FunctionName, params url.Values) work {
	return work{function: function, query: params.Encode()}
}

// fingerprint changes with the object's size and time of change, the function,
// its parameters, and the neighbours that decide the output's name.
func (w work) fingerprint(c candidate) fingerprint {
	digest := sha256.New()
	// Keys and parameters hold no zero byte in practice; %q makes sure of it.
	fmt.Fprintf(digest, "%q\x00%d\x00%d\x00%q\x00%q\x00%t\x00%t",
		c.Key, c.Size, c.Modified.UnixNano(), w.function, w.query, c.taken, c.crowded)
	var f fingerprint
	copy(f[:], digest.Sum(nil))
	return f
}

var jobPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$`)

// longestJob leaves room for the rest of an S3 key, which is bounded to 1024 bytes.
const longestJob = 256

// ValidateJob says whether a job may have this name: parts of letters, digits,
// dots, hyphens and underscores with slashes between, as Nomad gives dispatched
// jobs, at most 256 bytes.
func ValidateJob(job string) error {
	if len(job) > longestJob || !jobPattern.MatchString(job) {
		return fmt.Errorf("job %q: want letters, digits, dots, hyphens or underscores, with single slashes between, at most %d bytes", job, longestJob)
	}
	return nil
}

// ownFolder holds what jobs write about themselves; nothing below it is an input.
const ownFolder = ".bulk/"

func jobFolder(job string) string { return ownFolder + job + "/" }

func progressKey(job string, share int) string {
	return fmt.Sprintf("%sprogress-%d.json", jobFolder(job), share)
}

// FailuresKey is where, below the output, a share lists the objects that have no
// output, and why: JSON lines. After every thousand lines the list goes on in
// failures-<share>.1.ndjson and so forth.
func FailuresKey(job string, share int) string { return failuresKey(job, share, 0) }

func failuresKey(job string, share, part int) string {
	name := fmt.Sprintf("%sfailures-%d", jobFolder(job), share)
	if part > 0 {
		name += fmt.Sprintf(".%d", part)
	}
	return name + ".ndjson"
}

// journalKey sorts by run, since a run's id does by its time, and then by part.
func journalKey(job string, share, shares int, run string, part int) string {
	return fmt.Sprintf("%sshare-%d-of-%d-%s-%06d.ndjson", jobFolder(job), share, shares, run, part)
}

// isJournal says whether key is a journal of job, and whose: share of shares.
func isJournal(job, key string) (share, shares int, is bool) {
	name, below := strings.CutPrefix(key, jobFolder(job))
	if !below || strings.Contains(name, "/") {
		return 0, 0, false
	}
	var rest string
	n, _ := fmt.Sscanf(name, "share-%d-of-%d-%s", &share, &shares, &rest)
	return share, shares, n == 3 && strings.HasSuffix(rest, ".ndjson")
}
