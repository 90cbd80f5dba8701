package callback

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"lightcone"
)

// RegionKey is the secret of a region that its tenants' secrets are derived from: 32 random
// bytes or more. All nodes that deliver callbacks have the same, and so has whoever shows
// tenants their secrets.
type RegionKey []byte

const shortestRegionKey = 32 // bytes

// Validate says whether the key is long enough. The error does not repeat it.
func (k RegionKey) Validate() error {
	if len(k) < shortestRegionKey {
		return fmt.Errorf("callbacks: the region's key has %d bytes; want at least %d random ones", len(k), shortestRegionKey)
	}
	return nil
}

// Secret is what a tenant verifies its callbacks with. Printing it shows nothing: Text
// is the only way to it.
type Secret struct {
	key [sha256.Size]byte
}

// SecretOf is a tenant's secret in a region: the HMAC-SHA256 of the tenant's id, under
// a label, by the region's key. It is the same as long as the key is.
func SecretOf(key RegionKey, tenant lightcone.TenantID) Secret {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("lightcone callback secret\n" + string(tenant)))
	return Secret{key: [sha256.Size]byte(mac.Sum(nil))}
}

// Text is the secret as Standard Webhooks has it: "whsec_" and the base64 of its 32 bytes.
func (s Secret) Text() string { return "whsec_" + base64.StdEncoding.EncodeToString(s.key[:]) }

// String says only that this is one.
func (s Secret) String() string { return "whsec_(hidden)" }

// GoString is String, for %#v.
func (s Secret) GoString() string { return s.String() }

// sign signs what Standard Webhooks signs: the id, the timestamp and the body, with
// dots between. Neither of the first two has a dot.
func sign(key []byte, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// signatures are the tenant's signatures by each key of the region.
func signatures(keys []RegionKey, tenant lightcone.TenantID, id string, at time.Time, body []byte) (timestamp, signed string) {
	timestamp = strconv.FormatInt(at.Unix(), 10)
	each := make([]string, 0, len(keys))
	for _, key := range keys {
		secret := SecretOf(key, tenant)
		each = append(each, sign(secret.key[:], id, timestamp, body))
	}
	return timestamp, strings.Join(each, " ")
}
