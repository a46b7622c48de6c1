//! What can be asked at the door without changing anybody, and where followers stand.

use std::collections::BTreeMap;

use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::partition::{LoadCursor, SaveCursor, Standings};
use super::{
    Asker, BlocklistPage, CursorsSeen, ExecuteError, FriendRecord, FriendsPage, GroupSeen, Groups,
    Question, Reply, RequestsPage, Standing, Users, View, Viewed,
};
use crate::domain::{
    AppId, Command, Kept, OfferForm, Profile, Rejection, Subscriptions, UserId, UserKey, keeper,
};
use crate::journal::{Cursor, Partition, Place};

/// Records of friends that are asked for at a time: whatever they hold, an answer between nodes has room
/// for them.
pub(super) const RECORDS_AT_A_TIME: usize = 40;

/// What each question is answered, as far as its owner answers.
type Each<T> = Vec<Result<T, ExecuteError>>;

impl Asker<'_> {
    /// Whether each of `users` is imported, in order, as far as their owners say.
    pub async fn imported(self, app: AppId, users: &[UserId]) -> Each<bool> {
        let known = |user: &UserId| {
            let key = UserKey { app, user: *user };
            let home = self.users.partition(&key);
            Ok(self.users.may_know(home) && self.users.known.has_account(home, &key))
        };
        let mut imported: Each<bool> = users.iter().map(known).collect();
        let unknown: Vec<usize> =
            (0..users.len()).filter(|index| imported[*index] != Ok(true)).collect();
        if unknown.is_empty() {
            return imported;
        }
        let pairs: Vec<(UserId, UserId)> =
            unknown.iter().map(|index| (users[*index], users[*index])).collect();
        for (index, standing) in unknown.into_iter().zip(self.standings(app, &pairs).await) {
            imported[index] = standing.map(|standing| standing.owner_imported);
        }
        imported
    }

    /// What each pair's first user keeps about the second, in order, as far as the first ones' owners
    /// say.
    pub async fn standings(self, app: AppId, pairs: &[(UserId, UserId)]) -> Each<Standing> {
        let mut standings = vec![Err(ExecuteError::Unavailable); pairs.len()];
        let mut places: SmallVec<[(Partition, usize); 4]> = SmallVec::new();
        for (index, (owner, peer)) in pairs.iter().enumerate() {
            let owner = UserKey { app, user: *owner };
            let partition = self.users.partition(&owner);
            let may_know = self.users.may_know(partition);
            match may_know.then(|| self.users.known.standing(partition, owner, *peer)).flatten() {
                Some(known) => standings[index] = Ok(known),
                None => places.push((partition, index)),
            }
        }
        if places.is_empty() {
            return standings;
        }
        places.sort_unstable();
        let at_one = |one: &(Partition, usize), next: &(Partition, usize)| one.0 == next.0;
        let asked = places.chunk_by(at_one).map(|places| {
            let pairs = places.iter().map(|(_, index)| pairs[*index]).collect();
            (places[0].0, pairs)
        });
        let answers = if self.users.alone {
            self.standings_here(app, asked).await
        } else {
            let asked = asked.map(|(home, pairs)| (home, Question::Standings { app, pairs }));
            let answers = self.ask_each(asked).await.into_iter();
            answers.map(|answer| standings_of(answer?)).collect()
        };
        for (places, answer) in places.chunk_by(at_one).zip(answers) {
            match answer {
                Ok(found) => places.iter().zip(found).for_each(|((_, index), standing)| {
                    standings[*index] = Ok(standing);
                }),
                Err(error) => places.iter().for_each(|(_, index)| {
                    standings[*index] = Err(error.clone());
                }),
            }
        }
        standings
    }

    /// Where every partition is this node's own all are asked at once, and nobody is asked twice.
    async fn standings_here(
        self,
        app: AppId,
        asked: impl Iterator<Item = (Partition, Vec<(UserId, UserId)>)>,
    ) -> Each<Vec<Standing>> {
        let mut waiting: SmallVec<[_; 2]> = SmallVec::new();
        for (partition, pairs) in asked {
            let (reply, answer) = oneshot::channel();
            let sent = self.users.send(partition, Standings { app, pairs, reply });
            waiting.push(sent.map(|()| answer));
        }
        let mut answers = Vec::with_capacity(waiting.len());
        for answer in waiting {
            answers.push(match answer {
                Ok(answer) => answer.await.unwrap_or(Err(ExecuteError::Unavailable)),
                Err(error) => Err(error),
            });
        }
        answers
    }

    async fn view(self, key: UserKey, view: View) -> Result<Viewed, ExecuteError> {
        viewed(self.ask(self.users.partition(&key), Question::View { key, view }).await?)
    }

    async fn view_each(self, views: impl IntoIterator<Item = (UserKey, View)>) -> Each<Viewed> {
        let asked = views.into_iter().map(|(key, view)| {
            let home = self.users.partition(&key);
            (home, Question::View { key, view })
        });
        self.ask_each(asked).await.into_iter().map(|answer| viewed(answer?)).collect()
    }

    /// A page of `key`'s blocklist: at most `max` entries from `start` on.
    ///
    /// Errors: those of every [`Asker`].
    pub async fn blocklist(
        self,
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
    ///
    /// Errors: those of every [`Asker`].
    pub async fn friends(
        self,
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
    /// `key` is not imported. Asked for a part at a time.
    ///
    /// Errors: those of every [`Asker`].
    pub async fn friend_records(
        self,
        key: UserKey,
        peers: Vec<UserId>,
    ) -> Result<Option<Vec<Option<FriendRecord>>>, ExecuteError> {
        let mut all = Vec::with_capacity(peers.len());
        let mut left = &peers[..];
        loop {
            let (peers, rest) = left.split_at(left.len().min(RECORDS_AT_A_TIME));
            match self.view(key, View::FriendRecords { peers: peers.to_vec() }).await? {
                Viewed::FriendRecords { imported: true, records } => all.extend(records),
                Viewed::FriendRecords { imported: false, .. } => return Ok(None),
                _ => return Err(ExecuteError::Unavailable),
            }
            left = rest;
            if left.is_empty() {
                return Ok(Some(all));
            }
        }
    }

    /// Friend groups of `key`: those of `names`, or all if nothing is said. Members for which the answer
    /// has no room are asked for again; a group that is gone by then is left out.
    ///
    /// Errors: those of every [`Asker`].
    pub async fn groups(
        self,
        key: UserKey,
        names: Option<Vec<Box<str>>>,
        members: bool,
    ) -> Result<Groups, ExecuteError> {
        let mut seen = self.groups_with_room(key, names, members).await?;
        let lacks = |group: &GroupSeen| members && group.members.len() < group.count;
        // Each answer has room for at least one group.
        while seen.groups.iter().any(lacks) {
            let names = seen.groups.iter().filter(|group| lacks(group)).map(|g| g.name.clone());
            let more = self.groups_with_room(key, Some(names.collect()), true).await?.groups;
            let mut more: BTreeMap<Box<str>, GroupSeen> =
                more.into_iter().map(|group| (group.name.clone(), group)).collect();
            let groups = std::mem::take(&mut seen.groups).into_iter();
            let renewed =
                |group| if lacks(&group) { more.remove(&group.name) } else { Some(group) };
            seen.groups = groups.filter_map(renewed).collect();
        }
        Ok(seen)
    }

    async fn groups_with_room(
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
    ///
    /// Errors: those of every [`Asker`].
    pub async fn kept(self, key: UserKey, call: UserId) -> Result<Option<Kept>, ExecuteError> {
        match self.view(key, View::Kept { call }).await? {
            Viewed::Kept(kept) => Ok(kept.map(|kept| *kept)),
            _ => Err(ExecuteError::Unavailable),
        }
    }

    /// What is kept about the subscriptions of `app`; none if its sequence number is still `known`.
    ///
    /// Errors: those of every [`Asker`].
    pub async fn subscriptions(
        self,
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
        self,
        key: UserKey,
        command: Command,
    ) -> Result<Vec<Result<(), Rejection>>, ExecuteError> {
        match self.view(key, View::Foreseen { command }).await? {
            Viewed::Foreseen(outcomes) => outcomes.map_err(ExecuteError::Rejected),
            _ => Err(ExecuteError::Unavailable),
        }
    }

    /// Why each of `keys` would refuse to become a friend of `asker`, in order, as far as their owners
    /// answer. `asker` is not asked. With each key goes whether `asker` has it as a friend already.
    pub async fn would_refuse(
        self,
        keys: impl IntoIterator<Item = (UserKey, bool)>,
        asker: UserId,
        (form, forced): (OfferForm, bool),
    ) -> Each<Option<Rejection>> {
        let view = |(key, over)| (key, View::Considered { asker, form, forced, over });
        let seen = self.view_each(keys.into_iter().map(view)).await.into_iter();
        let refusals = seen.map(|seen| match seen? {
            Viewed::Considered(refusal) => Ok(refusal),
            _ => Err(ExecuteError::Unavailable),
        });
        refusals.collect()
    }

    /// The profile of each of `keys` whose account exists, in order, as far as their owners say.
    pub async fn profiles(
        self,
        keys: impl IntoIterator<Item = UserKey>,
    ) -> Each<Option<Box<Profile>>> {
        let views = keys.into_iter().map(|key| (key, View::Profile));
        let seen = self.view_each(views).await.into_iter();
        let profiles = seen.map(|seen| match seen? {
            Viewed::Profile(profile) => Ok(profile),
            _ => Err(ExecuteError::Unavailable),
        });
        profiles.collect()
    }

    /// A page of the requests that wait for `key`, or for others to answer `key`.
    ///
    /// Errors: those of every [`Asker`].
    pub async fn requests(
        self,
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

    /// Gives the follower `subscription` a cursor at the end of `partition`, whichever node owns it,
    /// if it has none of `term` or a later one there yet. What happens from then on is in front of it.
    ///
    /// Errors: those of every [`Asker`].
    pub async fn begin_cursor(
        self,
        partition: Partition,
        subscription: &str,
        term: u32,
    ) -> Result<(), ExecuteError> {
        let subscription = subscription.to_owned();
        self.ask(partition, Question::BeginCursor { subscription, term }).await.map(|_| ())
    }

    /// The cursors of the followers in each of `partitions` whose names begin with `prefix`, and the end
    /// of what is durable there; in order, as far as their owners say.
    pub async fn cursors(
        self,
        partitions: impl IntoIterator<Item = Partition>,
        prefix: &str,
    ) -> Each<CursorsSeen> {
        let asked = partitions.into_iter().map(|partition| {
            let prefix = prefix.to_owned();
            (partition, Question::Cursors { prefix })
        });
        let answers = self.ask_each(asked).await.into_iter();
        let seen = answers.map(|answer| match answer? {
            Reply::Cursors(seen) => Ok(seen),
            _ => Err(ExecuteError::Unavailable),
        });
        seen.collect()
    }
}

fn viewed(reply: Reply) -> Result<Viewed, ExecuteError> {
    match reply {
        Reply::View(viewed) => Ok(viewed),
        Reply::Executed(_) | Reply::Standings(_) | Reply::Cursors(_) => {
            Err(ExecuteError::Unavailable)
        }
    }
}

fn standings_of(reply: Reply) -> Result<Vec<Standing>, ExecuteError> {
    match reply {
        Reply::Standings(standings) => Ok(standings),
        Reply::Executed(_) | Reply::View(_) | Reply::Cursors(_) => Err(ExecuteError::Unavailable),
    }
}

impl Users {
    /// Where the follower `subscription` stands in `partition` by its last durable cursor, and the
    /// end of what is durable there.
    ///
    /// Errors: [`ExecuteError::Unavailable`] if the partition takes no commands,
    /// [`ExecuteError::Elsewhere`] if it lives on another node, [`ExecuteError::Overloaded`] if
    /// too many wait there.
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
    ///
    /// Errors: as [`Users::cursor`]'s; after [`ExecuteError::Unavailable`] the cursor may be
    /// durable all the same.
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
}
