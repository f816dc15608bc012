// Package web carries the demo page and the JavaScript client as files inside
// the program.
//
// The client is three ES modules (bridge-client.js and the two it imports);
// an app copies them or imports them from the bridge. The page asks for its
// files relative to itself and for /ws and /demo/… at the root, and runs under
//
//	default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';
//	img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'
package web

import "embed"

// Files holds index.html and everything it asks for, all at the root.
//
//go:embed index.html *.css *.js *.svg
var Files embed.FS
