//! Which apps have users.

use std::collections::BTreeSet;

use super::{StoreError, Tables, rows};
use crate::domain::AppId;

impl Tables {
    /// The apps that have users, as far as checkpoints know. Reads one row per app and partition.
    ///
    /// Errors: the store cannot be read.
    pub fn apps(&self) -> Result<BTreeSet<AppId>, StoreError> {
        self.readable()?;
        let mut apps = BTreeSet::new();
        let mut from = Some([0; 6]);
        while let Some(row) = from.and_then(|from| self.rows.range(from..).next()) {
            let key = row.key().map_err(|error| self.fail(error))?;
            let (partition, owner, _) = rows::parse_key(&key).ok_or(StoreError::Key)?;
            apps.insert(owner.app);
            from = rows::behind_app(partition, owner.app);
        }
        Ok(apps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{UserId, UserKey};
    use crate::journal::Partition;
    use crate::store::{Settings, Store};

    #[test]
    fn each_app_with_a_row_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { dir: folder.path().join("state"), cache_bytes: 1 << 20 };
        let store = Store::open(&settings).unwrap();
        let tables = store.tables();
        assert_eq!(tables.apps().unwrap(), BTreeSet::new());
        for (partition, app, user) in [
            (0, 7, "amy"),
            (0, 7, "bob"),
            (1, 8, "amy"),
            (1, u32::MAX, "amy"),
            (2, 7, "zoe"),
            (u16::MAX, u32::MAX, "zoe"),
        ] {
            let key = UserKey { app: AppId(app), user: UserId::parse(user).unwrap() };
            tables.rows.insert(rows::head_key(Partition(partition), &key), b"head").unwrap();
        }
        assert_eq!(tables.apps().unwrap(), [7, 8, u32::MAX].map(AppId).into());
        store.close();
    }
}
