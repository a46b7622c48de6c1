//! The default journal: checksummed segment files in one folder.
