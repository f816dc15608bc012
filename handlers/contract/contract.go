// Package contract holds the machine-readable descriptions of all that the
// bridge says and understands. The program serves them; tests hold the code to
// them.
package contract

import _ "embed"

// OpenAPI describes the HTTP side (OpenAPI 3.1, JSON).
//
//go:embed openapi.json
var OpenAPI []byte

// AsyncAPI describes what goes over a session's connection (AsyncAPI 3.0, JSON).
//
//go:embed asyncapi.json
var AsyncAPI []byte
