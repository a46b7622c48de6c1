//! The journal's folder: its settings for life, its lock, and the names of its segments.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::file::MODE;
use super::format::{FORMAT, SegmentHeader};
use crate::journal::JournalError;
#[cfg(debug_assertions)]
use crate::journal::bad_disk::told_to_fail;

const META: &str = "meta.json";
const META_DRAFT: &str = "meta.json.new";
const LOCK: &str = "lock";

/// What never changes in the life of a journal.
#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    format: u32,
    partitions: u16,
}

/// The folder of a journal with a known number of partitions. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: Arc<Path>,
    partitions: u16,
}

impl Folder {
    /// Names the folder at `path`; touches nothing.
    pub(super) fn new(path: &Path, partitions: u16) -> Self {
        Self { path: path.into(), partitions }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn partitions(&self) -> u16 {
        self.partitions
    }

    /// The file of segment `segment`.
    pub(super) fn segment_path(&self, segment: u64) -> PathBuf {
        self.path.join(format!("{segment:020}.log"))
    }

    /// The number of the last segment, 0 if there is none. Errors: a segment before it is missing.
    pub(super) fn last_segment(&self) -> Result<u64, JournalError> {
        let mut segments: Vec<u64> = Vec::new();
        let listed =
            fs::read_dir(&self.path).map_err(|source| failed("list", &self.path, source))?;
        for entry in listed {
            let entry = entry.map_err(|source| failed("list", &self.path, source))?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".log"));
            segments.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        segments.sort_unstable();
        // Nothing ever removes a segment, so a hole is the loss of something durable.
        match (1..).zip(&segments).find(|(expected, found)| expected != *found) {
            Some((missing, _)) => Err(JournalError::Corrupt {
                place: self.segment_path(missing).display().to_string(),
                detail: "the segment is missing".to_owned(),
            }),
            None => Ok(segments.len() as u64),
        }
    }

    pub(super) fn has_segment(&self, segment: u64) -> Result<bool, JournalError> {
        let path = self.segment_path(segment);
        path.try_exists().map_err(|source| failed("look for", &path, source))
    }

    /// Opens segment `segment` for reading, and reads its header; the inner error says what is
    /// wrong with the header.
    pub(super) fn open_segment(
        &self,
        segment: u64,
    ) -> Result<(File, Result<SegmentHeader, String>), JournalError> {
        let path = self.segment_path(segment);
        let file = File::open(&path).map_err(|source| failed("open", &path, source))?;
        let mut bytes = vec![0; SegmentHeader::bytes(self.partitions)];
        let read = read_at(&file, &mut bytes, 0).map_err(|source| failed("read", &path, source))?;
        bytes.truncate(read);
        Ok((file, SegmentHeader::decode(&bytes, segment, self.partitions)))
    }

    /// Makes the folder's names durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// Creates the folder, if need be, for its owner's eyes only.
    pub(super) fn create(&self) -> Result<(), JournalError> {
        let created = DirBuilder::new().recursive(true).mode(0o700).create(&self.path);
        #[cfg(debug_assertions)]
        let created = created.and_then(|()| told_to_fail("create-journal"));
        created.map_err(|source| failed("create", &self.path, source))
    }

    /// Makes the folder's own name durable.
    pub(super) fn sync_name(&self) -> Result<(), JournalError> {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)
                .and_then(|parent| parent.sync_all())
                .map_err(|source| failed("sync", parent, source)),
            Some(_) | None => Ok(()),
        }
    }

    /// Takes the folder for this process, as long as the answer lives.
    pub(super) fn lock(&self) -> Result<File, JournalError> {
        let path = self.path.join(LOCK);
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(MODE)
            .open(&path)
            .map_err(|source| failed("open", &path, source))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => {
                Err(JournalError::Locked { path: self.path.to_path_buf() })
            }
            Err(TryLockError::Error(source)) => Err(failed("lock", &path, source)),
        }
    }

    /// Writes down what never changes. The last step of a creation: what came before it is durable.
    pub(super) fn write_meta(&self) -> Result<(), JournalError> {
        let path = self.path.join(META);
        let write = || {
            let draft = self.path.join(META_DRAFT);
            #[cfg(debug_assertions)]
            told_to_fail("create-settings")?;
            let mut options = File::options();
            let options = options.write(true).create(true).truncate(true).mode(MODE);
            let mut file = options.open(&draft)?;
            let meta = Meta { format: FORMAT, partitions: self.partitions };
            file.write_all(&serde_json::to_vec(&meta)?)?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            self.sync()
        };
        write().map_err(|source| failed("write", &path, source))
    }
}

/// How many partitions the journal at `path` has; none if there is no journal yet.
pub(super) fn read_partitions(path: &Path) -> Result<Option<u16>, JournalError> {
    let meta_path = path.join(META);
    let bytes = match fs::read(&meta_path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed("read", &meta_path, source)),
    };
    let corrupt = |detail| JournalError::Corrupt { place: meta_path.display().to_string(), detail };
    let meta: Meta = serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
    if meta.format != FORMAT {
        return Err(corrupt(format!(
            "the journal has format {}, this program knows {FORMAT}",
            meta.format
        )));
    }
    Ok(Some(meta.partitions))
}

/// An error of the operating system, with what was tried.
pub(super) fn failed(verb: &str, path: &Path, source: io::Error) -> JournalError {
    JournalError::Io { action: format!("{verb} {}", path.display()), source }
}

/// Fills `into` from `position` on, as far as the file goes; answers how many bytes that is.
pub(super) fn read_at(file: &File, into: &mut [u8], position: u64) -> io::Result<usize> {
    use std::os::unix::fs::FileExt;
    #[cfg(debug_assertions)]
    told_to_fail("read")?;
    let mut read = 0;
    while read < into.len() {
        match file.read_at(&mut into[read..], position + read as u64) {
            Ok(0) => break,
            Ok(bytes) => read += bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
