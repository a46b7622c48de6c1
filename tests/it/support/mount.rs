//! A disk of a test's own, which can be full and read-only.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system in memory.
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// None where the test may not mount, which has been said then.
    pub(crate) fn new(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(at).expect("a folder for the mount");
        let options = format!("size={size},mode=700");
        if run("mount", &["-t", "tmpfs", "-o", &options, "tmpfs"], at) {
            return Some(Self(at.to_owned()));
        }
        super::skip_without_root("may not mount a tmpfs", "To run it, be root.");
        None
    }

    /// Takes all the room that is left.
    pub(crate) fn fill(&self) {
        use std::io::Write;
        let mut ballast = fs::File::create(self.ballast()).expect("there is room at first");
        // Smaller and smaller pieces, so that not one block is left.
        for size in [1 << 20, 1 << 12, 1] {
            while ballast.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }

    /// Gives it back.
    pub(crate) fn free(&self) {
        fs::remove_file(self.ballast()).expect("there was ballast");
    }

    /// Makes it writable, `rw`, or not, `ro`. Whatever other tests start meanwhile holds our files open
    /// until it is a program of its own, and that is too busy a disk to be made read-only.
    pub(crate) fn remount(&self, how: &str) {
        let option = format!("remount,{how}");
        super::eventually("the disk is not busy", || run("mount", &["-o", &option], &self.0));
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        run("umount", &["-l"], &self.0);
    }
}

fn run(program: &str, arguments: &[&str], path: &Path) -> bool {
    let output = Command::new(program).args(arguments).arg(path).output();
    output.is_ok_and(|output| output.status.success())
}
