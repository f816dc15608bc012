//go:build !linux

package sqlite

import "errors"

func mountSmall(string, string) (func() error, error) {
	return nil, errors.New("only on Linux")
}
