//! What the disk gives: one record after the other, each made durable by itself.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// About the size of the record of a block.
const RECORD_BYTES: usize = 300;
/// How long it is tried.
const TRIED: Duration = Duration::from_millis(500);

/// The median time of an append and its `fdatasync`, in a file of its own in `dir`.
pub(super) fn sync(dir: &Path) -> Duration {
    let path = dir.join("sync");
    let mut file = File::create(&path).expect("a file");
    let mut times = Vec::new();
    let began = Instant::now();
    while began.elapsed() < TRIED {
        let one = Instant::now();
        file.write_all(&[7; RECORD_BYTES]).expect("there is room");
        file.sync_data().expect("the disk takes it");
        times.push(one.elapsed());
    }
    let _ = std::fs::remove_file(path);
    times.sort_unstable();
    times[times.len() / 2]
}
