package main

import (
	"fmt"
	"log/slog"
	"net"

	"github.com/spf13/pflag"

	"lightcone/cmd/internal/commandline"
	"lightcone/gateway"
)

// tlsFlags name the front door's certificate.
type tlsFlags struct {
	certificateFile, keyFile string
}

func (t *tlsFlags) register(f *pflag.FlagSet) {
	f.StringVar(&t.certificateFile, "tls-certificate-file", "", "PEM `file` with the front door's certificate chain; without it, calls come in the clear")
	f.StringVar(&t.keyFile, "tls-key-file", "", "PEM `file` with the certificate's key; both files are read again when they change")
}

// certificate is the front door's; nil when it speaks plain HTTP.
func (t *tlsFlags) certificate(logger *slog.Logger) (*gateway.Certificate, error) {
	switch {
	case t.certificateFile == "" && t.keyFile == "":
		return nil, nil
	case t.certificateFile == "":
		return nil, commandline.Usagef("--tls-certificate-file (or %s) is missing beside --tls-key-file", settingOf("tls-certificate-file"))
	case t.keyFile == "":
		return nil, commandline.Usagef("--tls-key-file (or %s) is missing beside --tls-certificate-file", settingOf("tls-key-file"))
	}
	certificate, err := gateway.NewCertificate(t.certificateFile, t.keyFile, logger)
	if err != nil {
		return nil, fmt.Errorf("--tls-certificate-file: %w", err)
	}
	return certificate, nil
}

// accepting is how door serves a listener: with the certificate, if there is one.
func accepting(door *gateway.Gateway, certificate *gateway.Certificate) func(net.Listener) error {
	if certificate == nil {
		return door.Serve
	}
	return func(listener net.Listener) error { return door.ServeTLS(listener, certificate) }
}
