"""The tests; a package, so that directories may share helpers and file names."""
