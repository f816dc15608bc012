// Package auth proves who is calling. It checks webhook signatures (Standard
// Webhooks 1.0), tokens (JWT, RFC 7519) and single-use tickets, and it makes
// all three for tests and development.
//
// It says who somebody is, never what they may do: a token's rights are handed
// on as the JSON they were signed as. Nothing in here writes a secret, a token,
// a signature or a body into an error, a log line or a diagnosis.
package auth
