//! What can be asked at the door without changing anybody, and where followers stand.

use futures_util::future::try_join_all;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::partition::{LoadCursor, SaveCursor, Standings};
use super::{
    BlocklistPage, CursorsSeen, ExecuteError, FriendRecord, FriendsPage, Groups, Question, Reply,
    RequestsPage, Standing, Users, View, Viewed,
};
use crate::domain::{
    AppId, Command, Kept, OfferForm, Profile, Rejection, Subscriptions, UserId, UserKey, keeper,
};
use crate::journal::{Cursor, Partition, Place};

impl Users {
    /// Whether each of `users` is imported, in order.
    pub async fn imported(&self, app: AppId, users: &[UserId]) -> Result<Vec<bool>, ExecuteError> {
        let known = |user: &UserId| {
            let key = UserKey { app, user: *user };
            let home = self.partition(&key);
            self.may_know(home) && self.known.has_account(home, &key)
        };
        let mut imported: Vec<bool> = users.iter().map(known).collect();
        let unknown: Vec<usize> = (0..users.len()).filter(|index| !imported[*index]).collect();
        if unknown.is_empty() {
            return Ok(imported);
        }
        let pairs: Vec<(UserId, UserId)> =
            unknown.iter().map(|index| (users[*index], users[*index])).collect();
        for (index, standing) in unknown.into_iter().zip(self.standings(app, &pairs).await?) {
            imported[index] = standing.owner_imported;
        }
        Ok(imported)
    }

    /// What each pair's first user keeps about the second, in order.
    pub async fn standings(
        &self,
        app: AppId,
        pairs: &[(UserId, UserId)],
    ) -> Result<Vec<Standing>, ExecuteError> {
        let mut standings = vec![Standing::default(); pairs.len()];
        let mut places: SmallVec<[(Partition, usize); 4]> = SmallVec::new();
        for (index, (owner, peer)) in pairs.iter().enumerate() {
            let owner = UserKey { app, user: *owner };
            let partition = self.partition(&owner);
            let may_know = self.may_know(partition);
            match may_know.then(|| self.known.standing(partition, owner, *peer)).flatten() {
                Some(known) => standings[index] = known,
                None => places.push((partition, index)),
            }
        }
        if places.is_empty() {
            return Ok(standings);
        }
        places.sort_unstable();
        let at_one = |one: &(Partition, usize), next: &(Partition, usize)| one.0 == next.0;
        let asked = places.chunk_by(at_one).map(|places| {
            let pairs = places.iter().map(|(_, index)| pairs[*index]).collect();
            (places[0].0, pairs)
        });
        let answers = if self.alone {
            self.standings_here(app, asked).await?
        } else {
            let asked = asked.map(async |(partition, pairs)| {
                match self.ask(partition, Question::Standings { app, pairs }).await? {
                    Reply::Standings(answers) => Ok(answers),
                    _ => Err(ExecuteError::Unavailable),
                }
            });
            try_join_all(asked).await?
        };
        for ((_, index), standing) in places.into_iter().zip(answers.into_iter().flatten()) {
            standings[index] = standing;
        }
        Ok(standings)
    }

    /// Where every partition is this node's own all are asked at once, and nobody is asked twice.
    async fn standings_here(
        &self,
        app: AppId,
        asked: impl Iterator<Item = (Partition, Vec<(UserId, UserId)>)>,
    ) -> Result<Vec<Vec<Standing>>, ExecuteError> {
        let mut waiting: SmallVec<[_; 2]> = SmallVec::new();
        for (partition, pairs) in asked {
            let (reply, answer) = oneshot::channel();
            self.send(partition, Standings { app, pairs, reply })?;
            waiting.push(answer);
        }
        let mut answers = Vec::with_capacity(waiting.len());
        for answer in waiting {
            answers.push(answer.await.unwrap_or(Err(ExecuteError::Unavailable))?);
        }
        Ok(answers)
    }

    async fn view(&self, key: UserKey, view: View) -> Result<Viewed, ExecuteError> {
        match self.ask(self.partition(&key), Question::View { key, view }).await? {
            Reply::View(viewed) => Ok(viewed),
            Reply::Executed(_) | Reply::Standings(_) | Reply::Cursors(_) => {
                Err(ExecuteError::Unavailable)
            }
        }
    }

    /// A page of `key`'s blocklist: at most `max` entries from `start` on.
    pub async fn blocklist(
        &self,
        key: UserKey,
        start: usize,
        max: usize,
    ) -> Result<BlocklistPage, ExecuteError> {
        match self.view(key, View::Blocklist { start, max }).await? {
            Viewed::Blocklist(page) => Ok(page),
            _ => Err(ExecuteError::Unavailable),
        }
    }

    /// A page of `key`'s friend list: at most `max` entries from `start` on.
    pub async fn friends(
        &self,
        key: UserKey,
        start: usize,
        max: usize,
    ) -> Result<FriendsPage, ExecuteError> {
        match self.view(key, View::Friends { start, max }).await? {
            Viewed::Friends(page) => Ok(page),
            _ => Err(ExecuteError::Unavailable),
        }
    }

    /// What `key` keeps about each of `peers`, in order, as far as they are friends; nothing if
    /// `key` is not imported.
    pub async fn friend_records(
        &self,
        key: UserKey,
        peers: Vec<UserId>,
    ) -> Result<Option<Vec<Option<FriendRecord>>>, ExecuteError> {
        match self.view(key, View::FriendRecords { peers }).await? {
            Viewed::FriendRecords { imported, records } => Ok(imported.then_some(records)),
            _ => Err(ExecuteError::Unavailable),
        }
    }

    /// Friend groups of `key`: those of `names`, or all if nothing is said.
    pub async fn groups(
        &self,
        key: UserKey,
        names: Option<Vec<Box<str>>>,
        members: bool,
    ) -> Result<Groups, ExecuteError> {
        match self.view(key, View::Groups { names, members }).await? {
            Viewed::Groups(groups) => Ok(groups),
            _ => Err(ExecuteError::Unavailable),
        }
    }

    /// What `key` keeps of the call whose key has the hash `call`.
    pub async fn kept(&self, key: UserKey, call: UserId) -> Result<Option<Kept>, ExecuteError> {
        match self.view(key, View::Kept { call }).await? {
            Viewed::Kept(kept) => Ok(kept.map(|kept| *kept)),
            _ => Err(ExecuteError::Unavailable),
        }
    }

    /// What is kept about the subscriptions of `app`; none if its sequence number is still `known`.
    pub async fn subscriptions(
        &self,
        app: AppId,
        known: Option<u64>,
    ) -> Result<Option<Box<Subscriptions>>, ExecuteError> {
        let key = UserKey { app, user: keeper() };
        match self.view(key, View::Subscriptions { known }).await? {
            Viewed::Subscriptions(subscriptions) => Ok(subscriptions),
            _ => Err(ExecuteError::Unavailable),
        }
    }

    /// What `key` would say to `command`, which is not carried out: one outcome per item. The other side
    /// of a change is not asked.
    ///
    /// Errors: also why the whole would be refused.
    pub async fn foresee(
        &self,
        key: UserKey,
        command: Command,
    ) -> Result<Vec<Result<(), Rejection>>, ExecuteError> {
        match self.view(key, View::Foreseen { command }).await? {
            Viewed::Foreseen(outcomes) => outcomes.map_err(ExecuteError::Rejected),
            _ => Err(ExecuteError::Unavailable),
        }
    }

    /// Why `key` would refuse to be a friend of `asker`'s, who is not heard of; `over` says that `asker` has
    /// `key` as one already.
    pub async fn would_refuse(
        &self,
        key: UserKey,
        asker: UserId,
        (form, forced, over): (OfferForm, bool, bool),
    ) -> Result<Option<Rejection>, ExecuteError> {
        match self.view(key, View::Considered { asker, form, forced, over }).await? {
            Viewed::Considered(refusal) => Ok(refusal),
            _ => Err(ExecuteError::Unavailable),
        }
    }

    /// The profile of `key`, if the account exists.
    pub async fn profile(&self, key: UserKey) -> Result<Option<Box<Profile>>, ExecuteError> {
        match self.view(key, View::Profile).await? {
            Viewed::Profile(profile) => Ok(profile),
            _ => Err(ExecuteError::Unavailable),
        }
    }

    /// A page of the requests that wait for `key`, or for others to answer `key`.
    pub async fn requests(
        &self,
        key: UserKey,
        incoming: bool,
        start: usize,
        max: usize,
    ) -> Result<RequestsPage, ExecuteError> {
        match self.view(key, View::Requests { incoming, start, max }).await? {
            Viewed::Requests(page) => Ok(page),
            _ => Err(ExecuteError::Unavailable),
        }
    }

    /// Where the follower `subscription` stands in `partition` by its last durable cursor, and the
    /// end of what is durable there.
    pub async fn cursor(
        &self,
        partition: Partition,
        subscription: &str,
    ) -> Result<(Option<Cursor>, Place), ExecuteError> {
        let (reply, answer) = oneshot::channel();
        self.send(partition, LoadCursor { subscription: subscription.to_owned(), reply })?;
        answer.await.map_err(|_| ExecuteError::Unavailable)
    }

    /// Makes durable where the follower `subscription` stands in `partition`.
    pub async fn save_cursor(
        &self,
        partition: Partition,
        subscription: &str,
        cursor: Cursor,
    ) -> Result<(), ExecuteError> {
        let (reply, answer) = oneshot::channel();
        let save = SaveCursor { subscription: subscription.to_owned(), cursor, reply };
        self.send(partition, save)?;
        answer.await.unwrap_or(Err(ExecuteError::Unavailable))
    }

    /// Gives the follower `subscription` a cursor at the end of `partition`, whichever node owns it,
    /// if it has none of `term` or a later one there yet. What happens from then on is in front of it.
    pub async fn begin_cursor(
        &self,
        partition: Partition,
        subscription: &str,
        term: u32,
    ) -> Result<(), ExecuteError> {
        let subscription = subscription.to_owned();
        self.ask(partition, Question::BeginCursor { subscription, term }).await.map(|_| ())
    }

    /// The cursors of the followers in `partition` whose names begin with `prefix`, and the end of
    /// what is durable there, whichever node owns it.
    pub async fn cursors(
        &self,
        partition: Partition,
        prefix: &str,
    ) -> Result<CursorsSeen, ExecuteError> {
        match self.ask(partition, Question::Cursors { prefix: prefix.to_owned() }).await? {
            Reply::Cursors(seen) => Ok(seen),
            _ => Err(ExecuteError::Unavailable),
        }
    }
}
