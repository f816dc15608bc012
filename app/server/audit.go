package server

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	"hookbridge/app/bridge"
)

// openAudit opens where the audit log goes; the closer may be nil.
func (s *Settings) openAudit() (bridge.Audit, io.Closer, error) {
	var w io.Writer
	var closer io.Closer
	switch s.Audit {
	case "", "off":
		return bridge.Audit{}, nil, nil
	case "stderr":
		w = os.Stderr
	case "stdout":
		w = os.Stdout
	default:
		f, err := os.OpenFile(s.Audit, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return bridge.Audit{}, nil, fmt.Errorf("BRIDGE_AUDIT: %w", err)
		}
		w, closer = f, f
	}
	return bridge.NewAudit(slog.New(slog.NewJSONHandler(w, nil)).With("log", "audit")), closer, nil
}
