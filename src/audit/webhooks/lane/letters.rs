//! The letters of deliveries that were given up, and which of them a cursor counts.

use std::collections::{BTreeMap, BTreeSet};

use super::{Ground, Lane, less, signed};
use crate::audit::AuditError;
use crate::audit::webhooks::report::Rule;
use crate::journal::{DeadLetter, Offset, Tally};
use crate::webhooks::digest::DeliveryId;

/// A letter for a delivery that the cursor has not passed yet. After a crash the delivery is made again, and
/// may be accepted then.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    id: DeliveryId,
    hash: u128,
    letter: DeadLetter,
    /// The record that says so.
    said_at: Offset,
}

/// What the letters of a cursor came to.
#[derive(Default)]
pub(super) struct Letters {
    /// Those that are counted with this cursor.
    pub(super) counted: BTreeMap<DeliveryId, DeadLetter>,
}

impl Lane {
    /// Reads the dead letters, and finds out which of them the cursor counts.
    pub(super) fn letters(&mut self, ground: &mut Ground<'_>) -> Result<Letters, AuditError> {
        let next = self.cursor.place.next;
        let died = std::mem::take(&mut self.cursor.progress.died);
        let mut letters = Letters::default();
        let mut certain = Tally::default();
        let mut told = BTreeSet::new();
        for letter in &died {
            let Some((id, hash)) = self.owed_letter(letter, ground)? else { continue };
            self.pending.retain(|pending| pending.id != id);
            if id.offset >= next {
                let (letter, said_at) = (letter.clone(), self.said_at);
                self.pending.push(Pending { id, hash, letter, said_at });
                continue;
            }
            told.insert(id);
            if !self.told.contains(&id) && letters.counted.insert(id, letter.clone()).is_none() {
                certain.add(hash);
            }
        }
        self.cursor.progress.died = died;
        self.told = told;
        let passed: Vec<Pending> =
            self.pending.extract_if(.., |pending| pending.id.offset < next).collect();
        let said = self.cursor.progress.dead;
        if !self.is_counted() {
            self.dead = said;
            return Ok(letters);
        }
        let grown = less(said, self.dead);
        // The letters of a follower that crashed before it passed their deliveries count for nothing; the
        // later ones, of the one that passed them, do. So they are a tail of all, by age.
        let mut tail = certain;
        let mut taken = passed.len();
        while tail != grown && taken > 0 {
            let age = passed[taken - 1].said_at;
            while taken > 0 && passed[taken - 1].said_at == age {
                taken -= 1;
                tail.add(passed[taken].hash);
            }
        }
        if tail == grown {
            letters.counted.extend(passed.into_iter().skip(taken).map(|p| (p.id, p.letter)));
        } else {
            let detail = format!(
                "counts {} more calls as dead, and letters tell of {}",
                signed(grown.count),
                certain.count
            );
            self.find(ground, Rule::Dead, self.said_at, detail);
        }
        self.dead = said;
        Ok(letters)
    }

    /// The delivery that a letter names, if it was owed.
    fn owed_letter(
        &self,
        letter: &DeadLetter,
        ground: &mut Ground<'_>,
    ) -> Result<Option<(DeliveryId, u128)>, AuditError> {
        let id = letter.id.parse::<DeliveryId>().ok();
        let id = id.filter(|id| id.partition == self.whose.partition && id.offset < self.said_at);
        let owed = match id {
            Some(id) => ground.shelf.find(ground.journal, id.offset)?,
            None => None,
        };
        let owed = owed.filter(|owed| owed.user == letter.user);
        let wanted = owed.as_ref().zip(id).and_then(|(owed, id)| {
            let mut wanted = owed.wanted(self.want(owed));
            wanted.find(|(command, _)| *command == id.command).map(|(_, hash)| (id, hash))
        });
        if wanted.is_none() && self.is_counted() {
            let detail = format!("gives up {} of {}, which was never owed", letter.id, letter.user);
            self.find(ground, Rule::Dead, self.said_at, detail);
        }
        Ok(wanted)
    }
}
