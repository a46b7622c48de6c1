//! What must hold of a cursor, whatever it has passed.

use std::collections::{BTreeMap, VecDeque};

use super::{Delivery, Ground, Lane, less, signed};
use crate::audit::AuditError;
use crate::audit::webhooks::report::Rule;
use crate::domain::UserId;
use crate::journal::{Offset, Parked, Progress, Tally};
use crate::webhooks::digest::DeliveryId;

impl Lane {
    /// Each parked user waits with a delivery of theirs.
    pub(super) fn check_parked(&mut self, progress: &Progress, ground: &mut Ground<'_>) {
        for Parked { user, first, done, .. } in &progress.parked {
            let front = self.parked.get(user).and_then(VecDeque::front);
            let front = front.map(|delivery| (delivery.id.offset, delivery.index));
            if front != Some((*first, *done)) {
                let found = match front {
                    Some((offset, index)) => format!("the first that waits is {index} of {offset}"),
                    None => "none of theirs waits".to_owned(),
                };
                let detail = format!("parks {user} at call {done} of {first}, and {found}");
                self.find(ground, Rule::Parked, self.said_at, detail);
            }
        }
    }

    /// The law of a cursor: what the records before it owe is delivered, dead, or parked.
    pub(super) fn check_count(
        &mut self,
        progress: &Progress,
        from: Offset,
        settled: &[Delivery],
        ground: &mut Ground<'_>,
    ) -> Result<(), AuditError> {
        let mut waiting = Tally::default();
        self.parked.values().flatten().for_each(|delivery| waiting.add(delivery.hash));
        let mut said = progress.delivered;
        said.add_all(progress.dead);
        said.add_all(waiting);
        if said == self.owed {
            return Ok(());
        }
        let missing = less(self.owed, said);
        let mut culprit = self.gone(settled, missing);
        if culprit.is_none() && missing.count == 1 {
            let (partition, shelf) = (self.whose.partition, ground.shelf);
            shelf.visit(ground.journal, from, self.place, &mut |owed| {
                let mut wanted = owed.wanted(self.want(owed));
                if let Some((command, _)) = wanted.find(|(_, hash)| *hash == missing.digest) {
                    let id = DeliveryId { partition, offset: owed.offset, command };
                    culprit = Some(format!("{id} of {} is in none of them", owed.user));
                }
                Ok(())
            })?;
        }
        let culprit = culprit.unwrap_or_else(|| match signed(missing.count) {
            0 => "the calls that were counted are others than those that were owed".to_owned(),
            some if some > 0 => format!("{some} are in none of them"),
            some => format!("{} are counted too many", some.unsigned_abs()),
        });
        let detail = format!(
            "owes {} calls (digest {:032x}) from {} up to {}, since {from} anew; {} delivered, {} dead \
             and {} parked make {} (digest {:032x}): {culprit}",
            self.owed.count,
            self.owed.digest,
            self.since,
            self.place,
            progress.delivered.count,
            progress.dead.count,
            waiting.count,
            said.count,
            said.digest,
        );
        self.find(ground, Rule::Count, self.said_at, detail);
        self.owed = said;
        Ok(())
    }

    /// Whose deliveries are gone, if those that are missing are all that one user had parked.
    fn gone(&self, settled: &[Delivery], missing: Tally) -> Option<String> {
        let mut lost: BTreeMap<UserId, (Tally, Offset)> = BTreeMap::new();
        for delivery in settled {
            let (tally, _) =
                lost.entry(delivery.user).or_insert((Tally::default(), delivery.id.offset));
            tally.add(delivery.hash);
        }
        let (user, (tally, first)) = lost.into_iter().find(|(_, (tally, _))| *tally == missing)?;
        let (count, partition) = (tally.count, self.whose.partition);
        Some(format!("{user} was parked at {partition}@{first}, and those {count} are gone"))
    }

    /// The number and the name of the last delivery before the place where reading begins again.
    pub(super) fn check_chain(&mut self, progress: &Progress, ground: &mut Ground<'_>) {
        let first =
            self.parked.values().filter_map(VecDeque::front).min_by_key(|delivery| delivery.seq);
        let start = first.map_or(self.place, |delivery| delivery.id.offset);
        // The deliveries of the record that reading begins with are all counted behind it.
        let (seq, last) = match first {
            Some(delivery) if delivery.index == 0 => (delivery.seq - 1, delivery.before),
            Some(_) => return,
            None => (self.seq, self.last),
        };
        let said_start = progress.resume.map_or(self.cursor.place.next, |place| place.next);
        let said_last = progress.last.as_deref().map(str::to_owned);
        if (said_start, progress.seq, &said_last) == (start, seq, &last.map(|id| id.to_string())) {
            return;
        }
        let name = |id: Option<String>| id.unwrap_or_else(|| "none".to_owned());
        let detail = format!(
            "reads on at {said_start} behind call {} ({}), where it is {start} behind call {seq} ({})",
            progress.seq,
            name(said_last),
            name(last.map(|id| id.to_string())),
        );
        self.find(ground, Rule::Chain, self.said_at, detail);
        if first.is_none() {
            self.seq = progress.seq;
            self.last = progress.last.as_deref().and_then(|id| id.parse().ok());
        }
    }
}
