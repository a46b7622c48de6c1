//! Opens a journal for writing: creates it, or finds out where its durable part ends.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

use super::Settings;
use super::file::{Failure, SegmentFile};
use super::folder::{Folder, failed, read_at, read_partitions};
use super::format::{GROUP_HEADER_BYTES, SegmentHeader};
use super::index::Index;
use super::scan::{Place, Scan, Tail};
use crate::journal::JournalError;

/// A journal ready to be written.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) folder: Folder,
    /// Holds the folder for this process while it is open.
    pub(super) lock: File,
    pub(super) index: Index,
    /// The last segment, open for writing.
    pub(super) file: File,
    /// The last segment's length, zeros included.
    pub(super) file_bytes: u64,
    /// The last group holds records, so a clean close has to put an empty one behind it.
    pub(super) ends_with_records: bool,
}

/// Takes the folder and finds its durable end. Older segments are not read: they are checked when
/// somebody reads them.
pub(super) fn recover(settings: &Settings) -> Result<Recovered, JournalError> {
    let folder = Folder::new(&settings.dir, settings.partitions);
    if settings.partitions == 0 {
        let source =
            io::Error::new(ErrorKind::InvalidInput, "a journal has at least one partition");
        return Err(failed("open", folder.path(), source));
    }
    folder.create()?;
    let lock = folder.lock()?;
    match read_partitions(folder.path())? {
        Some(found) if found != settings.partitions => {
            return Err(JournalError::Partitions { found, expected: settings.partitions });
        }
        Some(_) => {}
        None => create(&folder)?,
    }
    let last = drop_unfinished_segment(&folder)?;
    let mut scan = Scan::at_segment(&folder, last)?;
    let mut index = Index::new(scan.place().clone());
    let mut last_group = None;
    loop {
        let start = scan.place().position;
        if !scan.next_group(None)? {
            break;
        }
        while scan.next_record()?.is_some() {}
        index.pass(scan.place());
        last_group = Some((start, scan.place().position));
    }
    index.end_at(scan.place());
    let path = folder.segment_path(last);
    let file = File::options()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(|source| failed("open", &path, source))?;
    let tail = scan.tail()?;
    let file_bytes = settle(&file, scan.place(), tail, last_group)
        .and_then(|bytes| folder.sync().map(|()| bytes))
        .map_err(|source| failed("make durable", &path, source))?;
    Ok(Recovered {
        folder,
        lock,
        index,
        file,
        file_bytes,
        ends_with_records: last_group
            .is_some_and(|(start, end)| end - start > GROUP_HEADER_BYTES as u64),
    })
}

/// Cuts a torn tail, and makes everything before it durable; answers the file's length.
fn settle(file: &File, end: &Place, tail: Tail, last_group: Option<(u64, u64)>) -> io::Result<u64> {
    if tail != Tail::Empty {
        let bytes = file.metadata()?.len();
        tracing::warn!(
            journal.segment = end.segment,
            journal.position = end.position,
            bytes = bytes - end.position,
            "cut off a write that a crash interrupted: no caller was told of it"
        );
        file.set_len(end.position)?;
    }
    // The last group may have been written without its sync, which may have failed in a way that
    // leaves it in the page cache alone, clean to look at. Writing it again makes the sync below
    // mean it; all groups before it were synced before it was written. Where there is none yet, the same
    // goes for the segment's header.
    let (start, end) = last_group.unwrap_or((0, end.position));
    let mut last = vec![0; (end - start) as usize];
    read_at(file, &mut last, start)?;
    file.write_all_at(&last, start)?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

/// Makes the first segment and then the settings, which say that the journal is complete.
fn create(folder: &Folder) -> Result<(), JournalError> {
    let header_bytes = SegmentHeader::bytes(folder.partitions()) as u64;
    let last = folder.last_segment()?;
    let first_path = folder.segment_path(1);
    let holds_records = last > 1
        || last == 1
            && fs::metadata(&first_path)
                .map_err(|source| failed("read", &first_path, source))?
                .len()
                > header_bytes;
    if holds_records {
        return Err(JournalError::Corrupt {
            place: folder.path().display().to_string(),
            detail: "there are segments, but no meta.json".to_owned(),
        });
    }
    folder.sync_name()?;
    let next = vec![0; usize::from(folder.partitions())];
    let header = SegmentHeader { segment: 1, first_group: 1, next };
    SegmentFile::create(
        folder,
        &header,
        #[cfg(test)]
        super::file::faults::Faults::default(),
    )
    .map_err(|failure| match failure {
        Failure::Refused(source) | Failure::Doubt(source) => failed("create", &first_path, source),
    })?;
    folder.write_meta()?;
    // Also where a disk is not mounted.
    tracing::info!(
        journal.path = %folder.path().display(),
        "there was no journal: an empty one is created"
    );
    Ok(())
}

/// Removes a last segment whose creation was cut short; answers the number of the last whole one.
fn drop_unfinished_segment(folder: &Folder) -> Result<u64, JournalError> {
    let last = folder.last_segment()?;
    if last == 0 {
        return Err(JournalError::Corrupt {
            place: folder.segment_path(1).display().to_string(),
            detail: "the segment is missing".to_owned(),
        });
    }
    let (file, header) = folder.open_segment(last)?;
    let path = folder.segment_path(last);
    let io_failed = |verb, source| failed(verb, &path, source);
    let bytes = file.metadata().map_err(|source| io_failed("read", source))?.len();
    // A group is only written once the header is durable, and the first segment is older than
    // meta.json: with a bad header, both are damage.
    let is_unfinished =
        header.is_err() && last > 1 && bytes <= SegmentHeader::bytes(folder.partitions()) as u64;
    if !is_unfinished {
        return Ok(last);
    }
    tracing::warn!(journal.segment = last, "removed a segment whose creation was cut short");
    fs::remove_file(&path)
        .and_then(|()| folder.sync())
        .map_err(|source| io_failed("remove", source))?;
    Ok(last - 1)
}
