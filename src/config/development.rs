//! The development app: what a node serves when no app is configured.
//!
//! Its id and key are made once, at random, and kept in the data folder for its owner's eyes only.
//! There is no fixed key: a forgotten setting never opens a door that others know.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize};

use super::app::App;
use super::secret::Secret;
use crate::domain::AppId;

/// The file in the data folder.
const FILE: &str = "development-app.json";
/// Where the file is written before it gets its name.
const NEW_FILE: &str = "development-app.json.new";
/// Ids look like those of the reference: 14 and eight more digits.
const FIRST_ID: u32 = 1_400_000_000;
const IDS: u32 = 100_000_000;
/// Keys look like those of the reference: 64 hexadecimal digits.
const KEY_BYTES: usize = 32;

#[derive(Serialize, Deserialize)]
struct Stored {
    app_id: AppId,
    key: String,
}

/// The development app of the data folder `data_dir`; made, with the folder, on first use.
///
/// Everything but its id and key is as by default. Errors: the folder or the file cannot be
/// read or written, or the file is not one of ours.
pub fn development_app(data_dir: &Path) -> anyhow::Result<App> {
    if let Some(app) = existing_development_app(data_dir)? {
        return Ok(app);
    }
    make_data_dir(data_dir)?;
    create(data_dir)
        .with_context(|| format!("the development app cannot be kept in {}", data_dir.display()))?;
    existing_development_app(data_dir)?.ok_or_else(|| anyhow!("{FILE} has just been removed"))
}

/// The development app of the data folder `data_dir`, if it was ever made.
///
/// Errors: the file cannot be read, or is not one of ours.
pub fn existing_development_app(data_dir: &Path) -> anyhow::Result<Option<App>> {
    let path = data_dir.join(FILE);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context(format!("{} cannot be read", path.display())),
    };
    // The parser's own words could repeat the key.
    let Stored { app_id, key } = serde_json::from_slice(&text).map_err(|_| {
        anyhow!(
            "{} is damaged. Restore it from a backup, or set CORDON_APP_ID to the id of the app, which \
             the journal has (cordon replay --limit 1), and CORDON_APP_KEY to a key. Without the file \
             there would be a new app, out of whose reach all users are",
            path.display()
        )
    })?;
    Ok(Some(App { id: app_id, keys: vec![Secret::new(key)], ..App::default() }))
}

/// Makes the folder `data_dir` unless it is there, for its owner's eyes only: the friends and blocks
/// of people are nobody else's business on this machine.
///
/// Errors: it cannot be made.
pub fn make_data_dir(data_dir: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)
        .with_context(|| format!("cannot create the data folder {}", data_dir.display()))
}

/// Writes a new app aside and then gives the file its name, so that it is there whole or not at
/// all.
fn create(data_dir: &Path) -> anyhow::Result<()> {
    let mut random = [0; 4 + KEY_BYTES];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut random)
        .map_err(|_| anyhow!("the system gives no random bytes"))?;
    let (for_id, for_key) = random.split_at(4);
    let id = u32::from_le_bytes(for_id.try_into().expect("four bytes are four bytes"));
    let stored = Stored {
        app_id: AppId(FIRST_ID + id % IDS),
        key: for_key.iter().map(|byte| format!("{byte:02x}")).collect(),
    };

    let new_path = data_dir.join(NEW_FILE);
    // A file left behind by a crash could be open to others: the mode only counts for a new one.
    match fs::remove_file(&new_path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new_path)?;
    file.write_all(&serde_json::to_vec_pretty(&stored)?)?;
    file.sync_all()?;
    fs::rename(&new_path, data_dir.join(FILE))?;
    File::open(data_dir)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_app_is_made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("new/data");
        assert!(existing_development_app(&data_dir).unwrap().is_none());
        let made = development_app(&data_dir).unwrap();
        assert_eq!(development_app(&data_dir).unwrap(), made);
        assert!((FIRST_ID..FIRST_ID + IDS).contains(&made.id.0));
        assert_eq!(made.keys[0].reveal().len(), 64);
        assert!(!data_dir.join(NEW_FILE).exists());
    }

    #[test]
    fn no_two_folders_have_the_same_key() {
        let key = || {
            let folder = tempfile::tempdir().unwrap();
            development_app(folder.path()).unwrap().keys[0].clone()
        };
        assert_ne!(key(), key());
    }

    #[test]
    fn only_the_owner_may_look_into_a_new_folder() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("new/data");
        development_app(&data_dir).unwrap();
        let mode = fs::metadata(data_dir).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn only_the_owner_may_read_the_key() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(NEW_FILE), "left behind by a crash, readable by all").unwrap();
        development_app(folder.path()).unwrap();
        let mode = fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_file_is_not_replaced_and_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), r#"{"app_id":1,"key":5713}"#).unwrap();
        let error = format!("{:?}", development_app(folder.path()).unwrap_err());
        assert!(error.contains("is damaged") && !error.contains("5713"), "{error}");
    }
}
