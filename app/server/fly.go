package server

import (
	"log/slog"
	"os"
)

// On Fly.io the proxy in front of the machine names the client in a header, and
// the machine knows its own name. Nothing else in the program knows Fly.

// flyClientIPHeader is the header to believe; empty when not on Fly, where
// anybody could have sent it.
func flyClientIPHeader() string {
	if os.Getenv("FLY_APP_NAME") == "" {
		return ""
	}
	return "Fly-Client-IP"
}

// flyLogger adds the machine and its region to each line.
func flyLogger(l *slog.Logger) *slog.Logger {
	if id := os.Getenv("FLY_MACHINE_ID"); id != "" {
		return l.With("machine", id, "region", os.Getenv("FLY_REGION"))
	}
	return l
}
