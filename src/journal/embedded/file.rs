//! The one file that is written, at places the writer says; in tests, a file that fails on demand.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use super::folder::Folder;
use super::format::SegmentHeader;
#[cfg(debug_assertions)]
use crate::journal::bad_disk::told_to_fail;

/// For its owner's eyes only, also where the folder was there before.
pub(super) const MODE: u32 = 0o600;

/// Why something could not be made durable.
#[derive(Debug)]
pub(super) enum Failure {
    /// The disk did not take it; what is on it is known.
    Refused(io::Error),
    /// What is on disk is in doubt. After a failed sync the kernel may have dropped the bytes and
    /// forgotten that they were never written, so that the next sync would succeed without them.
    Doubt(io::Error),
}

/// A segment file open for writing.
#[derive(Debug)]
pub(super) struct SegmentFile {
    file: File,
    /// What goes wrong from here on.
    #[cfg(test)]
    pub(super) faults: faults::Faults,
}

impl SegmentFile {
    pub(super) fn new(file: File, #[cfg(test)] faults: faults::Faults) -> Self {
        Self {
            file,
            #[cfg(test)]
            faults,
        }
    }

    /// Creates a segment and makes it durable, its name included. A failure leaves none behind, or
    /// is a [`Failure::Doubt`].
    pub(super) fn create(
        folder: &Folder,
        header: &SegmentHeader,
        #[cfg(test)] faults: faults::Faults,
    ) -> Result<Self, Failure> {
        let path = folder.segment_path(header.segment);
        #[cfg(debug_assertions)]
        told_to_fail("create-segment").map_err(Failure::Refused)?;
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(true).mode(MODE);
        let file = Self::new(
            options.open(&path).map_err(Failure::Refused)?,
            #[cfg(test)]
            faults,
        );
        if let Err(error) = file.write(&header.encode(), 0) {
            // A segment with this name would be taken for the one behind the last.
            fs::remove_file(&path).map_err(Failure::Doubt)?;
            return Err(Failure::Refused(error));
        }
        file.sync().map_err(Failure::Doubt)?;
        folder.sync().map_err(Failure::Doubt)?;
        Ok(file)
    }

    /// Writes all of `bytes` at `position`, or fails with any part of them written.
    pub(super) fn write(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        #[cfg(test)]
        if let Some((written, error)) = self.faults.write(bytes.len()) {
            self.file.write_all_at(&bytes[..written], position)?;
            return Err(error);
        }
        #[cfg(debug_assertions)]
        if let Err(error) = told_to_fail("write") {
            self.file.write_all_at(&bytes[..bytes.len() / 2], position)?;
            return Err(error);
        }
        self.file.write_all_at(bytes, position)
    }

    /// Makes the file's content and length durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        #[cfg(test)]
        self.faults.sync()?;
        #[cfg(debug_assertions)]
        told_to_fail("sync")?;
        self.file.sync_data()
    }

    /// Cuts the file behind its first `bytes` bytes.
    pub(super) fn cut(&self, bytes: u64) -> io::Result<()> {
        #[cfg(test)]
        self.faults.cut()?;
        self.file.set_len(bytes)
    }
}

#[cfg(test)]
pub(super) mod faults {
    use std::io;
    use std::sync::{Arc, Mutex, PoisonError};

    /// What the disk refuses at present. Clones are the same disk.
    #[derive(Clone, Debug, Default)]
    pub(in super::super) struct Faults(Arc<Mutex<Plan>>);

    #[derive(Clone, Copy, Debug, Default)]
    pub(in super::super) struct Plan {
        /// Bytes that still fit; none for no limit. Then `ENOSPC`.
        pub(in super::super) bytes_left: Option<usize>,
        /// Syncs fail with `EIO`.
        pub(in super::super) sync_fails: bool,
        /// Cutting the file fails with `EIO`.
        pub(in super::super) cut_fails: bool,
    }

    const ENOSPC: i32 = 28;
    const EIO: i32 = 5;

    impl Faults {
        pub(in super::super) fn set(&self, plan: Plan) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = plan;
        }

        fn plan(&self) -> Plan {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        pub(super) fn write(&self, bytes: usize) -> Option<(usize, io::Error)> {
            let mut plan = self.plan();
            let left = plan.bytes_left?;
            if bytes <= left {
                plan.bytes_left = Some(left - bytes);
                self.set(plan);
                return None;
            }
            plan.bytes_left = Some(0);
            self.set(plan);
            Some((left, io::Error::from_raw_os_error(ENOSPC)))
        }

        pub(super) fn sync(&self) -> io::Result<()> {
            if self.plan().sync_fails { Err(io::Error::from_raw_os_error(EIO)) } else { Ok(()) }
        }

        pub(super) fn cut(&self) -> io::Result<()> {
            if self.plan().cut_fails { Err(io::Error::from_raw_os_error(EIO)) } else { Ok(()) }
        }
    }
}
