// Package neterror names the kind of an error of HTTP over a network. The errors
// themselves quote what a server has replied, and the address that it is at.
package neterror

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"syscall"
)

// ErrHandshake is what a dialler wraps the error of a TLS handshake in, because most of
// those errors have no type of their own.
var ErrHandshake = errors.New("the TLS handshake failed")

// Class is the kind of an error in words for operators, without anything of the URL or
// of a reply.
func Class(err error) string {
	var timeout net.Error
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &dns):
		return "its name could not be resolved"
	case errors.As(err, &cert), errors.As(err, &record):
		return "its TLS is broken or its certificate not valid"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "it took too long"
	case errors.Is(err, ErrHandshake):
		return "its TLS is broken or its certificate not valid"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "the connection was refused"
	}
	return "the connection failed"
}
