package queue

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// CertificateLife is how long the certificates of an authority and of its nodes are
// valid: longer than a region's machines live, for a lapse stops the whole queue.
const CertificateLife = 10 * 365 * 24 * time.Hour

const clockSkew = time.Hour // by which a machine's clock may be behind that of who made it

var serials = new(big.Int).Lsh(big.NewInt(1), 120) // RFC 5280: up to 20 bytes, not to be guessed

// NewAuthority makes a certificate authority for one region's nodes: a self-signed
// certificate and its key, in PEM.
func NewAuthority(now time.Time) (certificate, key []byte, err error) {
	template := x509.Certificate{
		Subject: pkix.Name{CommonName: "Lightcone queue"},
		IsCA:    true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	return issue(template, now, nil)
}

// NewCertificate makes a certificate for NodeName and its key, in PEM, signed by an
// authority. All nodes may have the same one.
func NewCertificate(now time.Time, authority, authorityKey []byte) (certificate, key []byte, err error) {
	signer, err := tls.X509KeyPair(authority, authorityKey)
	if err != nil {
		return nil, nil, fmt.Errorf("the nodes' certificate authority: %w", err)
	}
	if !signer.Leaf.IsCA {
		return nil, nil, errors.New("the nodes' certificate authority: its certificate may not sign others")
	}
	template := x509.Certificate{
		Subject:     pkix.Name{CommonName: NodeName},
		DNSNames:    []string{NodeName},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	return issue(template, now, &signer)
}

// issue makes a key and a certificate for it, signed by signer, or by itself.
func issue(template x509.Certificate, now time.Time, signer *tls.Certificate) (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, serials); err != nil {
		return nil, nil, err
	}
	template.NotBefore, template.NotAfter = now.Add(-clockSkew), now.Add(CertificateLife)
	parent, parentKey := &template, any(private)
	if signer != nil {
		parent, parentKey = signer.Leaf, signer.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, parent, private.Public(), parentKey)
	if err != nil {
		return nil, nil, err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), nil
}
