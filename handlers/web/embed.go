// Package web carries the demo page and the JavaScript client as files inside
// the program.
//
// The client is the ES modules bridge-*.js, of which an app imports
// bridge-client.js, or bridge.js: all of them as one small file, made by
//
//	go test ./handlers/web -run Bundle -update
//
// They are the npm package @hookbridge/client too (package.json), with types
// made from their comments when it is packed. The page asks for its
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
