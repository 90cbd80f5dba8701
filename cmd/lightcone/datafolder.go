package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"lightcone"
	"lightcone/identity"
)

// claim makes the data folder and locks it for this process. The lock goes with
// the process, however it ends.
func claim(folder string) (release func(), err error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	name := filepath.Join(folder, "lock")
	lock, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the data folder's lock: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("another Lightcone is running on the data folder %s: stop it, or choose another folder with --data", folder)
		}
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return func() { _ = lock.Close() }, nil
}

// keyFile reads the key in the file called name, or makes one there that only
// its owner may read.
func keyFile(name string) (identity.Key, error) {
	text, err := os.ReadFile(name)
	if err == nil {
		key, err := identity.ParseKey(bytes.TrimSpace(text))
		if err != nil {
			return identity.Key{}, fmt.Errorf("%s does not hold a key: restore the file, or delete it to get a new key", name)
		}
		return key, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return identity.Key{}, fmt.Errorf("read a key: %w", err)
	}
	key, err := identity.NewKey(rand.Reader)
	if err != nil {
		return identity.Key{}, err
	}
	return key, writeSecret(name, key.Text()+"\n")
}

// writeSecret makes a file that only its owner may read. It is written beside and
// renamed, so that a crash leaves a whole one or none.
func writeSecret(name, text string) error {
	beside := name + ".new"
	if err := os.WriteFile(beside, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write a secret: %w", err)
	}
	if err := os.Rename(beside, name); err != nil {
		return fmt.Errorf("write a secret: %w", err)
	}
	return nil
}

// socketFolder is where the functions' sockets of a data folder live: short,
// since a socket's path is bounded, and where every user can pass, since
// functions run as a user of their own.
func socketFolder(data string) (string, error) {
	whole, err := filepath.Abs(data)
	if err != nil {
		return "", fmt.Errorf("find the data folder: %w", err)
	}
	name := fmt.Sprintf("lightcone-%d-%.12s", os.Getuid(), lightcone.DigestOf([]byte(whole)))
	return filepath.Join(os.TempDir(), name), nil
}
