package journal

// syncFolder does nothing: the file system notes new names itself.
func syncFolder(string) error { return nil }
