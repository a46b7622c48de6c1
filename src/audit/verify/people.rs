//! The users, rebuilt from zero, and what has to hold between two of them (cluster.md 5).
//!
//! Kept in memory are the states of all users and one note for each pair that was ever mentioned.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::channels::Pair;
use super::follow::{Ground, Need};
use super::report::{Noted, Report, Rule};
use crate::domain::{
    Agreement, AppId, EdgeId, Event, OfferForm, OfferState, RemovalReason, User, UserId, UserKey,
};
use crate::journal::{Commit, Offset, Partition};
use crate::store::rows::{Before, RowChanges, RowHash};

/// Where a record stands.
type Place = (Partition, Offset);

/// Who was named by whom before some records, and before which.
type Recent = HashMap<(UserKey, UserId), Vec<(Offset, bool)>>;

/// All users of a journal.
pub(super) struct People {
    people: HashMap<UserKey, Box<Person>, foldhash::fast::RandomState>,
    /// By partition, whose rows have changed since they were hashed.
    changed: Vec<Vec<UserKey>>,
    scratch: Vec<u8>,
    /// By partition, who was named by whom before which records, while its answers wait for questions.
    recent: Vec<Recent>,
    import_ignores_blocklist: BTreeSet<AppId>,
}

struct Person {
    state: User,
    /// The hash of the head row, as it is in the hash of all rows.
    head: RowHash,
    /// The rows that have changed since they were hashed, if any have.
    before: Option<Before>,
    partition: Partition,
    notes: HashMap<UserId, Note, foldhash::fast::RandomState>,
}

/// What the state does not tell about one peer.
#[derive(Default)]
struct Note {
    /// The last record that mentions the peer.
    offset: Offset,
    /// The block in force keeps friendships.
    remains: bool,
    /// The block in force let an import through.
    passed: bool,
    /// How the friendship in force came about.
    form: Option<OfferForm>,
    /// The last friendship of both that the user removed from their own list alone: the peer may
    /// still have it.
    left: Option<Box<EdgeId>>,
}

impl Person {
    fn new(id: UserId, partition: Partition) -> Self {
        let (state, notes) = (User::new(id), HashMap::default());
        Self { state, head: RowHash::default(), before: None, partition, notes }
    }

    /// Whether the user blocks `peer` by a block that suffers no friendship.
    fn bans(&self, peer: &UserId) -> bool {
        self.state.blocks(peer) && !self.notes.get(peer).is_some_and(|note| note.remains)
    }

    /// Whether the block of `peer` that is in force has let an import through.
    fn has_passed(&self, peer: &UserId) -> bool {
        self.notes.get(peer).is_some_and(|note| note.passed)
    }

    fn form(&self, peer: &UserId) -> Option<OfferForm> {
        self.notes.get(peer).and_then(|note| note.form)
    }

    /// Whether the user has `peer` as a friend, or a request of theirs.
    fn names(&self, peer: &UserId) -> bool {
        self.state.has_friend(peer) || self.state.request_of(peer).is_some()
    }

    fn place(&self, peer: &UserId) -> Place {
        (self.partition, self.notes.get(peer).map_or(Offset(0), |note| note.offset))
    }

    /// Notes what `event` says beyond the state, before the state takes it into account.
    fn note(&mut self, event: &Event, offset: Offset) {
        if let Event::AccountDeleted {} = event {
            for note in self.notes.values_mut() {
                (note.remains, note.passed, note.form) = (false, false, None);
            }
        }
        let Some(peer) = event.peer() else { return };
        let state = &self.state;
        let note = self.notes.entry(peer).or_default();
        note.offset = offset;
        match event {
            Event::UserBlocked { remain_friends, .. } => note.remains = *remain_friends,
            Event::UserUnblocked { .. } => note.passed = false,
            Event::FriendOffered { despite_block, .. }
            | Event::FriendAccepted { despite_block, .. } => note.passed |= *despite_block,
            // An offer of one direction is confirmed under its own id; all other edges are of both.
            Event::FriendAdded { edge, .. } => {
                let mine = state.offers().find(|offer| offer.peer == peer && offer.edge == *edge);
                note.form = Some(mine.map_or(OfferForm::TwoWay, |offer| offer.form));
            }
            // Of the owner's own without an offer: what is left when the peer takes an offer back.
            Event::FriendLinked { edge, .. } => {
                let mine = state.offers().any(|offer| offer.edge == *edge);
                let alone = edge.offerer == state.id() && !mine;
                note.form = Some(if alone { OfferForm::OneWay } else { OfferForm::TwoWay });
            }
            Event::FriendRemoved { edge, reason, .. } => {
                if matches!(reason, RemovalReason::DeletedSingle | RemovalReason::ClearedSingle)
                    && note.form == Some(OfferForm::TwoWay)
                {
                    note.left = Some(Box::new(*edge));
                }
                note.form = None;
            }
            Event::PeerForgotten { .. } => (note.passed, note.form) = (false, None),
            // Who was asked has said that the friendship goes one way only.
            Event::OfferConfirmed { mine: true, agreement: Some(Agreement::OneWay), .. } => {
                note.form = Some(OfferForm::OneWay);
            }
            Event::AccountImported {}
            | Event::ProfileChanged(_)
            | Event::AccountDeleted {}
            | Event::FriendRequested { .. }
            | Event::FriendRefused { .. }
            | Event::FriendUpdated { .. }
            | Event::FriendChanged { .. }
            | Event::GroupsAdded { .. }
            | Event::FriendsGrouped { .. }
            | Event::GroupsRemoved { .. }
            | Event::MessageAccepted(_)
            | Event::VerdictGiven(_)
            | Event::CallBegun { .. }
            | Event::CallDone { .. }
            | Event::CallAnswered { .. }
            | Event::CallsForgotten { .. }
            | Event::SubscriptionSet(_)
            | Event::SubscriptionDeleted { .. }
            | Event::SubscriptionMoved(_)
            | Event::ReplayBegun(_)
            | Event::ReplayEnded { .. }
            | Event::UnfriendAsked { .. }
            | Event::OfferPending { .. }
            | Event::OfferConfirmed { .. }
            | Event::OfferEnded { .. }
            | Event::OfferWithdrawn { .. }
            | Event::OffersSettled { .. }
            | Event::RequestDropped { .. } => {}
        }
    }
}

impl People {
    /// Nobody yet, in so many partitions. In the apps of `import_ignores_blocklist`, an imported friend
    /// may be blocked also where no record says so.
    pub(super) fn new(partitions: u16, import_ignores_blocklist: BTreeSet<AppId>) -> Self {
        Self {
            people: HashMap::default(),
            changed: vec![Vec::new(); usize::from(partitions)],
            scratch: Vec::new(),
            recent: vec![Recent::new(); usize::from(partitions)],
            import_ignores_blocklist,
        }
    }

    /// Brings `hash`, that of a partition's rows, up to the last record.
    pub(super) fn hash(&mut self, partition: Partition, hash: &mut RowHash) {
        let mut rows = RowChanges::default();
        for key in self.changed[usize::from(partition.0)].drain(..) {
            let Some(person) = self.people.get_mut(&key) else { continue };
            let Some(before) = person.before.take() else { continue };
            person.head = before.compare(&person.state, hash, &mut rows);
            rows.clear();
        }
    }

    /// Takes a valid record into account: the same fold as in a node. Answers which effects its events
    /// have to answer. Who is named is remembered if its partition `waits` for questions.
    pub(super) fn replay(
        &mut self,
        place: Place,
        commit: &Commit,
        waits: bool,
        problems: &mut Noted,
    ) -> Box<[Need]> {
        let (key, version) = (commit.key, commit.version);
        let person =
            self.people.entry(key).or_insert_with(|| Box::new(Person::new(key.user, place.0)));
        let expected = person.state.version().next();
        if version != expected {
            let detail = format!("{key} has version {version} where {expected} follows");
            problems.add(Rule::VersionsWithoutGap, place, detail);
        }
        let recent = &mut self.recent[usize::from(place.0.0)];
        let peers = || commit.events.iter().filter_map(Event::peer);
        let known = waits.then(|| peers().map(|peer| (peer, person.names(&peer))).collect());
        let known: Vec<(UserId, bool)> = known.unwrap_or_default();
        if !waits && !recent.is_empty() {
            *recent = Recent::new();
        }
        match &mut person.before {
            Some(before) => before.look_also(&person.state, &commit.events, &mut self.scratch),
            before => {
                let (head, state, events) = (person.head, &person.state, &commit.events);
                *before = Some(Before::look_for_events(
                    place.0,
                    key,
                    head,
                    state,
                    events,
                    &mut self.scratch,
                ));
                self.changed[usize::from(place.0.0)].push(key);
            }
        }
        let mut needs = Vec::new();
        let import_ignores_blocklist = self.import_ignores_blocklist.contains(&key.app);
        for event in &commit.events {
            let ground = Ground { user: &person.state, commit, import_ignores_blocklist };
            if !ground.admits(event) {
                let detail = format!("{key} has a {} that does not follow", name_of(event));
                problems.add(Rule::EventsFollow, place, detail);
            }
            match ground.needs(event) {
                Some((need, true)) => needs.push(need),
                Some((need, false)) => {
                    let detail = format!("{key} has a {} that nobody caused", name_of(event));
                    problems.add(need.rule(), place, detail);
                }
                None => {}
            }
            person.note(event, place.1);
            person.state.evolve(event, commit.at);
        }
        person.state.replay(version, &[], commit.at);
        for (peer, named) in known {
            if named != person.names(&peer) {
                recent.entry((key, peer)).or_default().push((place.1, named));
            }
        }
        for peer in peers() {
            let banned = person.bans(&peer) && person.state.has_friend(&peer);
            let imported = person.form(&peer) == Some(OfferForm::Import);
            if banned && !(imported && (import_ignores_blocklist || person.has_passed(&peer))) {
                let detail = format!("{key} has {peer} as a friend and blocks them");
                problems.add(Rule::NoFriendBlocked, place, detail);
            }
        }
        needs.into()
    }

    /// Whether `key` had `peer` as a friend, or a request of theirs, right behind the record at `place`.
    pub(super) fn named_behind(
        &self,
        (partition, offset): Place,
        key: &UserKey,
        peer: &UserId,
    ) -> bool {
        let changes = self.recent[usize::from(partition.0)].get(&(*key, *peer));
        let next = changes.and_then(|changes| changes.iter().find(|(at, _)| *at > offset));
        match next {
            Some((_, named)) => *named,
            None => self.people.get(key).is_some_and(|person| person.names(peer)),
        }
    }

    /// Looks at everybody once all is read, and counts. Of a pair with something on the way nothing
    /// is asked that only holds at rest.
    pub(super) fn finish(
        &self,
        unsettled: &HashSet<Pair>,
        report: &mut Report,
        problems: &mut Noted,
        warnings: &mut Noted,
    ) {
        // In the order of names, so that two runs over one journal say the same.
        let mut keys: Vec<&UserKey> = self.people.keys().collect();
        keys.sort_unstable();
        report.users = keys.len() as u64;
        for key in keys {
            let person = &self.people[key];
            report.partitions[usize::from(person.partition.0)].users += 1;
            report.blocks += person.state.blocked_count() as u64;
            for friend in person.state.friends() {
                let back = self.has_friend(key, &friend.peer);
                report.friendships += u64::from(!back || key.user < friend.peer);
            }
            self.look_at(key, person, unsettled, problems);
            self.look_for_deleted(key, person, unsettled, warnings);
        }
    }

    /// Pairs of users with a row of one about the other; each direction counts.
    pub(super) fn pairs(&self) -> u64 {
        self.people.values().map(|person| person.notes.len() as u64).sum()
    }

    fn other(&self, key: &UserKey, peer: &UserId) -> Option<&Person> {
        self.people.get(&UserKey { app: key.app, user: *peer }).map(Box::as_ref)
    }

    fn has_friend(&self, key: &UserKey, peer: &UserId) -> bool {
        self.other(key, peer).is_some_and(|other| other.state.has_friend(&key.user))
    }

    fn look_at(
        &self,
        key: &UserKey,
        person: &Person,
        unsettled: &HashSet<Pair>,
        problems: &mut Noted,
    ) {
        let at_rest = |peer: &UserId| !unsettled.contains(&Pair::of(key.app, key.user, *peer));
        for friend in person.state.friends().filter(|friend| at_rest(&friend.peer)) {
            let (peer, place) = (&friend.peer, person.place(&friend.peer));
            let form = person.form(peer);
            let other = self.other(key, peer);
            let passed = self.import_ignores_blocklist.contains(&key.app)
                || other.is_some_and(|other| other.has_passed(&key.user));
            let imported = passed && form == Some(OfferForm::Import);
            // Who blocks a friend of their own is found at the record that made it so.
            if !imported && other.is_some_and(|other| other.bans(&key.user)) {
                let detail = format!("{key} has {peer} as a friend, who blocks them");
                problems.add(Rule::NeverBlockedAndFriends, place, detail);
            }
            let edge = friend.edge(key.user);
            let held = other.and_then(|other| other.state.friend(&key.user));
            let held = held.map(|back| back.edge(*peer));
            let left = other
                .and_then(|other| other.notes.get(&key.user))
                .and_then(|note| note.left.as_deref());
            if form == Some(OfferForm::TwoWay) && held != Some(edge) && left != Some(&edge) {
                let detail = match held {
                    Some(held) => {
                        format!("{key} has {peer} by edge {edge}, who has them by {held}")
                    }
                    None => format!("{key} has {peer} by edge {edge}, who has no such friend"),
                };
                problems.add(Rule::BothSides, place, detail);
            }
        }
        let open = person.state.offers().filter(|offer| offer.state == OfferState::Open);
        for offer in open.filter(|offer| at_rest(&offer.peer)) {
            let detail = format!("{key} awaits an answer of {} to {}", offer.peer, offer.edge);
            problems.add(Rule::OffersAnswered, person.place(&offer.peer), detail);
        }
    }
    /// A deleted account is forgotten once all partitions have heard of it; only a call that was
    /// looked up before the deletion and recorded behind it names it again.
    fn look_for_deleted(
        &self,
        key: &UserKey,
        person: &Person,
        unsettled: &HashSet<Pair>,
        warnings: &mut Noted,
    ) {
        let state = &person.state;
        for peer in state.peers() {
            let gone = self.other(key, &peer).is_some_and(|other| !other.state.is_imported());
            let heard = !unsettled.contains(&Pair::of(key.app, peer, peer));
            let named = state.blocks(&peer)
                || state.has_friend(&peer)
                || state.requests().any(|request| request.peer == peer);
            if gone && heard && named {
                let detail = format!("{key} still names {peer}, whose account is gone");
                warnings.add(Rule::DeletedForgotten, person.place(&peer), detail);
            }
        }
    }
}

/// How the event is stored.
fn name_of(event: &Event) -> String {
    let event = serde_json::to_value(event).unwrap_or_default();
    event["type"].as_str().unwrap_or_default().to_owned()
}
