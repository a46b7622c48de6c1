//! Where the followers of a partition stand.

use super::{After, Ledger};
use crate::journal::{Body, Cursor, Place};

impl Ledger {
    /// Gives each follower that has none yet a cursor in front of everything that this term of office
    /// will record: a partition serves nobody before those who follow it have a place in it.
    pub(in crate::actors) fn begin_cursors(&self) {
        for name in self.context.followers.iter() {
            self.begin_cursor(name, None);
        }
    }

    /// Gives a follower a cursor in front of everything that is not final yet, if it has none;
    /// `after` is called once it has one that is durable.
    pub(in crate::actors) fn begin_cursor(&self, name: &str, after: Option<After>) {
        let known = self.state.borrow().cursors.contains_key(name);
        if known {
            // Whatever made it known may be in flight.
            let sent = self.sent();
            if let Some(after) = after {
                self.when_final(sent, after);
            }
            return;
        }
        let cursor = Cursor::begin(self.position());
        let body = Body::Cursor { subscription: name.to_owned(), cursor: Box::new(cursor.clone()) };
        self.append_control(&body, after);
        self.state.borrow_mut().cursors.insert(name.to_owned(), cursor);
    }

    /// Where the follower `subscription` stands, by its last final record.
    pub(in crate::actors) fn cursor(&self, subscription: &str) -> Option<Cursor> {
        self.state.borrow().cursors.get(subscription).cloned()
    }

    /// Place and term of that cursor.
    pub(in crate::actors) fn cursor_place(&self, subscription: &str) -> Option<(u32, Place)> {
        let state = self.state.borrow();
        state.cursors.get(subscription).map(|cursor| (cursor.term, cursor.place))
    }

    /// How many followers have a cursor here.
    pub(in crate::actors) fn cursors_count(&self) -> usize {
        self.state.borrow().cursors.len()
    }

    /// The cursors of the followers whose names begin with `prefix`, by name.
    pub(in crate::actors) fn cursors(&self, prefix: &str) -> Vec<(String, Cursor)> {
        let state = self.state.borrow();
        let from = state.cursors.range(prefix.to_owned()..);
        let found = from.take_while(|(name, _)| name.starts_with(prefix));
        found.map(|(name, cursor)| (name.clone(), cursor.clone())).collect()
    }
}
