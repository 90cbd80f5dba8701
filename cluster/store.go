package main

import (
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// The S3 store: a job on the host outside the racks, so that a rack that is cut off
// leaves it to the others.
const (
	storePort      = 7070
	storeRegion    = "eu-central-1"
	storeAccessKey = "lightcone"
	bucketName     = "usage"
)

// storeURL is the store's API, for this machine and the racks.
var storeURL = "http://" + serverAddress + ":" + strconv.Itoa(storePort)

// usageBucket is the bucket of usage records, as all of the region names it.
var usageBucket = "s3://" + bucketName + "?" + url.Values{
	"region": {storeRegion}, "endpoint": {storeURL}, "use_path_style": {"true"},
}.Encode()

// bucketFolder is the same bucket as this machine's files.
func (c *cluster) bucketFolder() string { return filepath.Join(c.store(), "buckets", bucketName) }

// regionKeys adds the store's credentials to the keys that the services know each
// other by, and names the file with both.
func (c *cluster) regionKeys() (string, error) {
	text, err := os.ReadFile(filepath.Join(c.folder, "keys.json"))
	if err != nil {
		return "", err
	}
	var variable struct {
		Path  string
		Items map[string]string
	}
	if err := json.Unmarshal(text, &variable); err != nil {
		return "", err
	}
	secret, err := c.storeKey()
	if err != nil {
		return "", err
	}
	variable.Items["usage_access_key_id"], variable.Items["usage_secret_access_key"] = storeAccessKey, secret
	if text, err = json.Marshal(variable); err != nil {
		return "", err
	}
	name := filepath.Join(agentsFolder, "config", "keys.json")
	return name, os.WriteFile(name, text, 0o600)
}

// storeKey is the store's secret key, made when there is none.
func (c *cluster) storeKey() (string, error) {
	name := filepath.Join(c.folder, "store.key")
	text, err := os.ReadFile(name)
	if !errors.Is(err, os.ErrNotExist) {
		return strings.TrimSpace(string(text)), err
	}
	secret := uuid()
	return secret, os.WriteFile(name, []byte(secret+"\n"), 0o600)
}
