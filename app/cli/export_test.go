package cli

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestExport(t *testing.T) {
	t.Run("that cannot be written leaves no file", exportLeavesNoFile)
}

func exportLeavesNoFile(t *testing.T) {
	path, full := filepath.Join(t.TempDir(), "store.jsonl"), errors.New("no space left")
	if err := writeNew(path, func(*os.File) error { return full }); !errors.Is(err, full) {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
