package callback

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"lightcone"
)

// TestSignature: the example of the Standard Webhooks libraries' own tests.
func TestSignature(t *testing.T) {
	key, err := base64.StdEncoding.DecodeString("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	got := sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestSecrets(t *testing.T) {
	key := RegionKey("a region's key of 32 random bytes.")
	secret := SecretOf(key, "acme")
	if want := "whsec_1i7UuONhwgB1bbgbDnZsYBZfLsfYZVjwpZJz4ZCI87U="; secret.Text() != want { // computed by Python's hmac
		t.Errorf("%s, want %s", secret.Text(), want)
	}
	for _, printed := range []string{fmt.Sprint(secret), fmt.Sprintf("%+v", secret), fmt.Sprintf("%#v", secret)} {
		if strings.Contains(printed, "1i7U") || !strings.Contains(printed, "hidden") {
			t.Errorf("printed as %s", printed)
		}
	}
	if err := (RegionKey("short and secret")).Validate(); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a short key: %v", err)
	}
	if err := key.Validate(); err != nil {
		t.Error(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SliceOfNDistinct(rapid.SliceOfN(rapid.Byte(), 32, 48), 2, 2, func(key []byte) string { return string(key) }).Draw(t, "keys")
		tenants := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z][a-z0-9-]{0,62}`), 2, 2, rapid.ID).Draw(t, "tenants")
		secrets := make(map[string]bool)
		for _, key := range keys {
			for _, tenant := range tenants {
				secrets[SecretOf(key, lightcone.TenantID(tenant)).Text()] = true
			}
		}
		if len(secrets) != 4 {
			t.Fatalf("%d secrets of 2 tenants by 2 keys", len(secrets))
		}
	})
}
