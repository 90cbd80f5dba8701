package client

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/url"

	"lightcone"
)

// ContentKey is an Idempotency-Key made of all that a call consists of: whoever queues
// the same again, after an interruption, gets the call of before. Another run, of
// any name, is other calls.
func ContentKey(run string, function lightcone.FunctionName, params url.Values, input Input, callback string) (string, error) {
	digest := sha256.New()
	for _, part := range []string{"lightcone content key 1", run, string(function), params.Encode(), input.ContentType, callback} {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		digest.Write(length[:]) // so that no part can pass for the end of another
		io.WriteString(digest, part)
	}
	content, err := input.Open()
	if err != nil {
		return "", err
	}
	defer content.Close()
	if _, err := io.Copy(digest, content); err != nil {
		return "", fmt.Errorf("read the input: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(digest.Sum(nil)), nil
}
