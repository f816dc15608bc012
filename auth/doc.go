// Package auth proves who is calling. It checks webhook signatures (Standard
// Webhooks 1.0), tokens (JWT, RFC 7519) and single-use tickets, and it makes
// all three for tests and development.
//
// It decides who a caller is and not what the caller may do: a token's rights are
// returned as the JSON that was signed. It writes no secret, token, signature or body
// into an error, a log line or a diagnosis.
package auth
