//! The rules of the core: given a history, when a command or an effect comes, then these events.

mod account;
mod adding;
mod blocking;
mod grouping;
mod handshake;
mod judging;
mod keeping;
mod laws;
mod removing;
mod subscribing;

use super::*;

/// When everything happens unless a test says otherwise.
const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn id(name: &str) -> UserId {
    UserId::parse(name).expect("a name")
}

/// The offer that `name` recorded with `version`.
fn edge(name: &str, version: u64) -> EdgeId {
    EdgeId { offerer: id(name), version: Version(version) }
}

/// A user with the policy of their app.
#[derive(Clone, Debug)]
struct Someone {
    user: User,
    policy: Policy,
}

/// An account whose first record is its import.
fn someone(name: &str) -> Someone {
    let mut user = User::new(id(name));
    user.replay(Version(1), &[Event::AccountImported {}], NOW);
    Someone { user, policy: Policy::default() }
}

impl Someone {
    /// With these facts in one record.
    fn given(mut self, events: &[Event]) -> Self {
        self.user.replay(self.user.version().next(), events, NOW);
        self
    }

    fn under(mut self, change: impl FnOnce(&mut Policy)) -> Self {
        change(&mut self.policy);
        self
    }

    fn with_friend(self, name: &str, edge: EdgeId) -> Self {
        self.given(&[added(name, edge)])
    }

    fn allowing(self, allow_type: AllowType) -> Self {
        let allow_type = Some(allow_type);
        self.given(&[Event::ProfileChanged(ProfileChange { allow_type, ..Default::default() })])
    }

    fn when(&mut self, command: &Command) -> Decision {
        let decided = self.user.perform(command, &self.policy, NOW);
        let decision = decided.expect("the account exists");
        self.close(&decision.events);
        decision
    }

    /// What each item of a batch comes to.
    fn outcomes(&mut self, command: &Command) -> Vec<Result<Outcome, Rejection>> {
        self.when(command).outcomes
    }

    fn events(&mut self, command: &Command) -> Vec<Event> {
        self.when(command).events
    }

    fn hears(&mut self, peer: &str, effects: &[Effect]) -> Vec<Event> {
        let events = self.user.react(id(peer), effects, &self.policy, NOW);
        self.close(&events);
        events
    }

    fn close(&mut self, events: &[Event]) {
        if !events.is_empty() {
            self.user.recorded();
        }
    }

    fn edge_of(&self, peer: &str) -> Option<EdgeId> {
        let friend = self.user.friends.get(&id(peer))?;
        Some(friend.edge(self.user.id()))
    }

    fn offer_state(&self, peer: &str) -> Option<OfferState> {
        Some(self.user.rare.offers.get(&id(peer))?.state)
    }

    fn page(&self, start: usize, max: usize) -> Vec<String> {
        let order = self.user.blocklist_order();
        let blocks = self.user.blocklist_page(&order, start, max).expect("the list is the same");
        blocks.iter().map(|block| block.peer.to_string()).collect()
    }

    fn sequence(&self) -> u32 {
        self.user.blocklist_sequence()
    }
}

/// What the events ask of others.
fn asked(events: &[Event]) -> Vec<(String, Effect)> {
    let mut asked = Vec::new();
    effects(events, |to, effect| asked.push((to.to_string(), effect)));
    asked
}

/// Hands everything that is under way between the two to and fro until nothing is left: `first` has
/// just recorded `events`.
fn settle_between(first: &mut Someone, second: &mut Someone, events: &[Event]) {
    let mut events = events.to_vec();
    let (mut from, mut to) = (first, second);
    while !events.is_empty() {
        let for_the_other: Vec<Effect> = asked(&events)
            .into_iter()
            .filter(|(name, _)| name == to.user.id().as_str())
            .map(|(_, effect)| effect)
            .collect();
        let from_name = from.user.id();
        events = to.hears(from_name.as_str(), &for_the_other);
        (from, to) = (to, from);
    }
}

fn targets(names: &[&str]) -> Vec<Target> {
    names.iter().map(|name| Target { user: id(name), imported: true }).collect()
}

fn block(names: &[&str]) -> Command {
    Command::Block { targets: targets(names) }
}

fn unblock(names: &[&str]) -> Command {
    Command::Unblock { targets: targets(names) }
}

fn wanted(name: &str, card: Card) -> NewFriend {
    NewFriend { user: id(name), imported: true, card }
}

fn add(form: OfferForm, names: &[&str]) -> Command {
    let items = names.iter().map(|name| wanted(name, Card::default())).collect();
    Command::AddFriends { items, form, forced: false }
}

fn add_with(form: OfferForm, name: &str, card: Card) -> Command {
    Command::AddFriends { items: vec![wanted(name, card)], form, forced: false }
}

fn force(name: &str) -> Command {
    let items = vec![wanted(name, Card::default())];
    Command::AddFriends { items, form: OfferForm::TwoWay, forced: true }
}

/// A removal; each of `has_me` has the user as a friend, as far as was looked up.
fn remove(names: &[&str], both: bool, has_me: &[&str]) -> Command {
    let former = |name: &&str| FormerFriend { user: id(name), has_me: has_me.contains(name) };
    Command::RemoveFriends { targets: names.iter().map(former).collect(), both }
}

fn blocked(name: &str) -> Event {
    Event::UserBlocked { target: id(name), remain_friends: false }
}

fn added(name: &str, edge: EdgeId) -> Event {
    Event::FriendAdded { peer: id(name), edge, card: Card::default() }
}

fn removed(name: &str, edge: EdgeId, reason: RemovalReason) -> Event {
    Event::FriendRemoved { peer: id(name), edge, reason, announced: false }
}

fn offered(name: &str, edge: EdgeId, form: OfferForm) -> Event {
    Event::FriendOffered {
        peer: id(name),
        edge,
        form,
        forced: false,
        over: None,
        again: false,
        despite_block: false,
        card: Card::default(),
    }
}

fn requested(name: &str, edge: EdgeId) -> Event {
    Event::FriendRequested { peer: id(name), edge, card: Card::default() }
}

fn propose(edge: EdgeId, form: OfferForm) -> Effect {
    Effect::Propose { edge, form, forced: false, over: false, again: false, card: Card::default() }
}

fn sever(announced: bool) -> Effect {
    Effect::Sever { why: Severance::Blocked, keep_friend: false, announced }
}

fn confirm(offer: EdgeId) -> Effect {
    Effect::Confirm { offer, edge: offer, added: true, agreement: None }
}

fn settled(offered: u64, friends: &[(&str, bool, bool)]) -> Event {
    let friends = friends
        .iter()
        .map(|(name, mine, theirs)| Settled { peer: id(name), mine: *mine, theirs: *theirs })
        .collect();
    Event::OffersSettled { offered: Version(offered), forced: false, waited: false, friends }
}
