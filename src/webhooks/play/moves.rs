//! Where operators move a played subscription to.

use std::rc::Rc;

use super::{APP, PARTITIONS, World};
use crate::domain::{Command, Policy, SeekTo, Timestamp, UserKey, keeper};
use crate::journal::Partition;

impl World {
    /// An operator moves the subscription: its lanes are left and begun again.
    pub(super) fn seek(&mut self) {
        let to = match self.random.below(6) {
            0 => SeekTo::End,
            1 => SeekTo::Time(Timestamp(self.random.below(self.now.max(1)) as i64)),
            other => {
                let number = (other % u64::from(PARTITIONS)) as u16;
                let end = self.shelves[usize::from(number)].fed.len() as u64;
                SeekTo::Offsets(vec![(number, self.random.below(end))])
            }
        };
        let name = self.subscription.name.as_str();
        let command =
            Command::MoveSubscription { name: name.into(), to: to.clone(), configured: true };
        let at = self.at();
        let moved = self.keeper.perform(&command, &Policy::default(), at).expect("it may be moved");
        self.keeper.recorded();
        let kept = self.keeper.subscriptions().expect("it was moved");
        let term = kept.last_move(name).expect("it was moved").term;
        let mut subscription = (*self.subscription).clone();
        subscription.seeks = kept.moves(name).cloned().collect();
        for partition in (0..PARTITIONS).map(Partition) {
            let named = match &to {
                SeekTo::Offsets(named) => named[0].0 == partition.0,
                _ => true,
            };
            if named {
                let to_moment = matches!(to, SeekTo::Time(_));
                self.moves.insert(partition, (!to_moment).then_some(term));
            }
        }
        self.commit(0, UserKey { app: APP, user: keeper() }, moved.events);
        self.crash();
        self.subscription = Rc::new(subscription);
    }
}
