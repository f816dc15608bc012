package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// cursorFile is where listen keeps the cursor.
type cursorFile struct {
	path  string
	saved string // what the file holds
}

// openCursorFile reads the cursor that the file holds, if there is one.
func openCursorFile(path string) (f *cursorFile, err error) {
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("--cursor-file: %w", err)
	}
	return &cursorFile{path: path, saved: strings.TrimSpace(string(b))}, nil
}

// save writes the cursor, whole or not at all. Without one the file is removed, as an app
// does whose user was erased.
func (f *cursorFile) save(cursor string) (err error) {
	switch {
	case cursor == f.saved && cursor != "":
		return nil
	case cursor == "":
		if err = os.Remove(f.path); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	default:
		err = writeWhole(f.path, cursor+"\n")
	}
	if err != nil {
		return fmt.Errorf("--cursor-file: %w", err)
	}
	f.saved = cursor
	return nil
}

func writeWhole(path, text string) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = tmp.WriteString(text)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}
