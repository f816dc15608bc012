package auth

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// parsePublicKey reads one PEM block, also as environment variables and templates mangle
// it; see straightenPEM. The error has no part of the text.
func parsePublicKey(text string) (key any, kind keyKind, err error) {
	block, rest := pem.Decode([]byte(straightenPEM(text)))
	if block == nil {
		return nil, 0, errors.New("is not PEM")
	}
	if strings.TrimSpace(string(rest)) != "" {
		return nil, 0, errors.New("has something behind its first PEM block; one key is expected")
	}
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		return nil, 0, errors.New("is a certificate; take the key out of it with: openssl x509 -pubkey -noout")
	default:
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return nil, 0, errors.New("is a private key; it must not be on this machine")
		}
		return nil, 0, errors.New("must be a PUBLIC KEY block")
	}
	if err != nil {
		return nil, 0, fmt.Errorf("cannot be read: %w", err)
	}
	kind, err = kindOf(key)
	return key, kind, err
}

const (
	pemBegin = "-----BEGIN "
	pemEnd   = "-----END "
	pemDash  = "-----"
)

// straightenPEM undoes what shells, .env files, YAML and editors do to PEM: a byte order
// mark before it, quotes around it, indented lines, and line breaks that have become
// spaces, carriage returns or the two characters \n. Text that is no whole block is
// returned unchanged.
func straightenPEM(text string) string {
	text = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(text), "\ufeff"))
	for _, quote := range []string{`"`, `'`} {
		if len(text) > 1 && strings.HasPrefix(text, quote) && strings.HasSuffix(text, quote) {
			text = text[1 : len(text)-1]
		}
	}
	text = strings.NewReplacer(`\r`, "\n", `\n`, "\n").Replace(text)
	before, rest, ok := strings.Cut(text, pemBegin)
	if !ok || strings.TrimSpace(before) != "" {
		return text
	}
	label, rest, ok := strings.Cut(rest, pemDash)
	if !ok {
		return text
	}
	body, rest, ok := strings.Cut(rest, pemEnd+label+pemDash)
	if !ok {
		return text
	}
	body = strings.Join(strings.Fields(body), "")
	return pemBegin + label + pemDash + "\n" + body + "\n" + pemEnd + label + pemDash + "\n" + rest
}
