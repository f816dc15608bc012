package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// maxSettingsFile bounds a file of settings, bytes.
const maxSettingsFile = 4 << 20

// ReadRegular reads a file of at most maxBytes. It refuses devices and pipes, because reading
// one may never end, and a pipe cannot be read twice. Its errors do not name the file, because
// somebody may have set a secret where a file's name belongs.
func ReadRegular(path string, maxBytes int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	switch {
	case info.IsDir():
		return nil, errors.New("it is a folder")
	case !info.Mode().IsRegular():
		return nil, errors.New("it must be a regular file, and no device or pipe")
	case info.Size() > maxBytes:
		return nil, fmt.Errorf("it has %d bytes; at most %d are read", info.Size(), maxBytes)
	}
	b, err := os.ReadFile(path)
	return b, withoutPath(err)
}

// withoutPath is what went wrong with a file.
func withoutPath(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}
