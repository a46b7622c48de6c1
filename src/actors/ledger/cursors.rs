//! Where the followers of a partition stand.

use std::rc::Rc;

use super::{After, Ledger, State};
use crate::journal::{Body, Cursor, Offset, Place};

impl Ledger {
    /// Gives each follower that has none yet a cursor in front of everything that this term of office
    /// will record: a partition serves nobody before those who follow it have a place in it.
    pub(in crate::actors) fn begin_cursors(&self) {
        for name in self.context.followers.iter() {
            self.begin_cursor(name, 0, None);
        }
    }

    /// Gives a follower a cursor in front of everything that is not final yet, if it has none of `term` or
    /// a later one; `after` is called once it has one that is durable.
    pub(in crate::actors) fn begin_cursor(&self, name: &str, term: u32, after: Option<After>) {
        if self.cursor_sent(name).is_some_and(|(known, _)| known >= term) {
            // Whatever made it known may be in flight.
            let sent = self.sent();
            if let Some(after) = after {
                self.when_final(sent, after);
            }
            return;
        }
        let cursor = Box::new(Cursor { term, ..Cursor::begin(self.position()) });
        self.append_control(&Body::Cursor { subscription: name.to_owned(), cursor }, after);
    }

    /// Place and term of the follower `subscription`, by its last record, which may be in flight.
    pub(in crate::actors) fn cursor_sent(&self, subscription: &str) -> Option<(u32, Place)> {
        let state = self.state.borrow();
        let of = |cursor: &Cursor| (!cursor.ended).then_some((cursor.term, cursor.place));
        match state.cursor_in_flight(subscription) {
            Some(cursor) => of(cursor),
            None => state.cursors.get(subscription).and_then(of),
        }
    }

    /// Calls `then` with where the follower `subscription` stands by its last record, and where the
    /// partition does, once that record is final; with nothing if it is lost.
    pub(in crate::actors) fn when_cursor_final(
        self: &Rc<Self>,
        subscription: String,
        then: impl FnOnce(Option<(Option<Cursor>, Place)>) + 'static,
    ) {
        let in_flight = self.state.borrow().cursor_in_flight(&subscription).is_some();
        let ledger = self.clone();
        let after = move |offset: Option<Offset>| {
            let cursor = || ledger.state.borrow().cursors.get(&subscription).cloned();
            then(offset.map(|_| (cursor(), ledger.position())));
        };
        if in_flight {
            self.when_final(self.sent(), Box::new(after));
        } else {
            after(Some(Offset(0)));
        }
    }

    /// How many followers have a cursor here.
    pub(in crate::actors) fn cursors_count(&self) -> usize {
        self.state.borrow().cursors.len()
    }

    /// The final cursors of the followers whose names begin with `prefix`, by name.
    pub(in crate::actors) fn cursors(&self, prefix: &str) -> Vec<(String, Cursor)> {
        let state = self.state.borrow();
        let from = state.cursors.range(prefix.to_owned()..);
        let found = from.take_while(|(name, _)| name.starts_with(prefix));
        found.map(|(name, cursor)| (name.clone(), cursor.clone())).collect()
    }
}

impl State {
    /// The last cursor of `subscription` that is not final.
    fn cursor_in_flight(&self, subscription: &str) -> Option<&Cursor> {
        let cursors = self.in_flight.iter().rev().filter_map(|record| record.cursor.as_ref());
        cursors.filter(|(name, _)| name == subscription).map(|(_, cursor)| &**cursor).next()
    }
}
