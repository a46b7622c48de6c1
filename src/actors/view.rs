//! What may be asked about one user, and what is answered: pages and single records of what the
//! user's actor owns.

use serde::{Deserialize, Serialize};

use crate::domain::{
    Block, BlocklistOrder, Card, Command, FriendView, Kept, OfferForm, Policy, Profile, Rejection,
    Subscriptions, Timestamp, User, UserId,
};

/// What the records of one page take at most, as a user holds them: in an answer between nodes, which has
/// room for 4 MiB, a letter may take six.
const RECORDS_BYTES_MAX: usize = 600 << 10;

/// Members of groups in one answer at most: there, a name may take 67 bytes.
const MEMBERS_MAX: usize = 50_000;

/// A question about one user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "view", rename_all = "snake_case")]
pub enum View {
    /// A page of the blocklist.
    Blocklist {
        /// Where the page starts.
        start: usize,
        /// Entries at most.
        max: usize,
    },
    /// A page of the friend list.
    Friends {
        /// Where the page starts.
        start: usize,
        /// Entries at most.
        max: usize,
    },
    /// The records of some friends.
    FriendRecords {
        /// Of whom.
        peers: Vec<UserId>,
    },
    /// Friend groups.
    Groups {
        /// Which; all if nothing is said.
        names: Option<Vec<Box<str>>>,
        /// With their members, as far as there is room for all of a group's.
        members: bool,
    },
    /// The profile.
    Profile,
    /// What is kept of a call with a key.
    Kept {
        /// The hash of the key.
        call: UserId,
    },
    /// What is kept about the app's subscriptions.
    Subscriptions {
        /// Only if its sequence number is another one than this.
        known: Option<u64>,
    },
    /// What the user would say to a command, which is not carried out.
    Foreseen {
        /// The command.
        command: Command,
    },
    /// What the user would say to an offer of a friendship, which is not made.
    Considered {
        /// Who would make it.
        asker: UserId,
        /// What they want.
        form: OfferForm,
        /// An administrator forces it.
        forced: bool,
        /// They have the user as a friend already.
        over: bool,
    },
    /// A page of the requests that wait.
    Requests {
        /// Those of others to the user; else the user's to others.
        incoming: bool,
        /// Where the page starts.
        start: usize,
        /// Entries at most.
        max: usize,
    },
}

/// The answer to a [`View`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "view", content = "with", rename_all = "snake_case")]
pub enum Viewed {
    /// To [`View::Blocklist`].
    Blocklist(BlocklistPage),
    /// To [`View::Friends`].
    Friends(FriendsPage),
    /// To [`View::FriendRecords`]: one per peer, in order; none for who is no friend.
    FriendRecords {
        /// The owner's account exists.
        imported: bool,
        /// The records.
        records: Vec<Option<FriendRecord>>,
    },
    /// To [`View::Groups`].
    Groups(Groups),
    /// To [`View::Profile`]; none for an account that does not exist.
    Profile(Option<Box<Profile>>),
    /// To [`View::Kept`].
    Kept(Option<Box<Kept>>),
    /// To [`View::Subscriptions`]; none if they are known.
    Subscriptions(Option<Box<Subscriptions>>),
    /// To [`View::Foreseen`]: one outcome per item, or why the whole would be refused. The other side is
    /// not asked.
    Foreseen(Result<Vec<Result<(), Rejection>>, Rejection>),
    /// To [`View::Considered`]: why it would be refused.
    Considered(Option<Rejection>),
    /// To [`View::Requests`].
    Requests(RequestsPage),
}

/// One page of a blocklist.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlocklistPage {
    /// The owner's account exists.
    pub imported: bool,
    /// The entries, oldest first.
    pub entries: Vec<Block>,
    /// How many entries the whole list has.
    pub total: usize,
    /// The list's sequence number.
    pub sequence: u32,
}

/// One page of a friend list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FriendsPage {
    /// The owner's account exists.
    pub imported: bool,
    /// The entries, by name; also fewer than were asked for, if they are large.
    pub entries: Vec<FriendRecord>,
    /// How many friends there are.
    pub total: usize,
    /// The sequence number of the standard fields.
    pub sequence: u32,
    /// The sequence number of the custom fields.
    pub custom_sequence: u32,
}

/// What a user keeps about one friend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FriendRecord {
    /// The friend.
    pub peer: UserId,
    /// When the friend was added, in unix seconds.
    pub at: u32,
    /// The rest.
    pub card: Card,
}

impl From<FriendView<'_>> for FriendRecord {
    fn from(friend: FriendView<'_>) -> Self {
        let card = friend.card().map(Card::from).unwrap_or_default();
        Self { peer: friend.peer, at: friend.at, card }
    }
}

/// Friend groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Groups {
    /// The owner's account exists.
    pub imported: bool,
    /// The groups, oldest first.
    pub groups: Vec<GroupSeen>,
    /// The groups' sequence number.
    pub sequence: u32,
}

/// One friend group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSeen {
    /// Its name.
    pub name: Box<str>,
    /// How many friends are in it.
    pub count: usize,
    /// Who, by name, if that was asked for.
    pub members: Vec<UserId>,
}

/// One page of waiting requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestsPage {
    /// The owner's account exists.
    pub imported: bool,
    /// The entries, by name.
    pub entries: Vec<RequestSeen>,
    /// How many wait.
    pub total: usize,
}

/// One waiting request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestSeen {
    /// Who asks, or is asked.
    pub peer: UserId,
    /// Where it came from: `AddSource_Type_…`.
    pub source: Box<str>,
    /// Its words.
    pub wording: Box<str>,
    /// When it was made, in unix seconds.
    pub at: u32,
}

impl View {
    /// What `user` shows under the rules of the app, now. `order` is that of the blocklist as it was
    /// looked at last.
    pub(super) fn of(
        &self,
        user: &User,
        order: &mut Option<BlocklistOrder>,
        rules: (&Policy, Timestamp),
    ) -> Viewed {
        let imported = user.is_imported();
        match self {
            Self::Blocklist { start, max } => {
                let known = order.as_ref().and_then(|o| user.blocklist_page(o, *start, *max));
                let entries = known.unwrap_or_else(|| {
                    let taken = order.insert(user.blocklist_order());
                    user.blocklist_page(taken, *start, *max).unwrap_or_default()
                });
                let (total, sequence) = (user.blocked_count(), user.blocklist_sequence());
                // Whoever has seen the end turns no more pages.
                if start.saturating_add(entries.len()) >= total {
                    *order = None;
                }
                Viewed::Blocklist(BlocklistPage { imported, entries, total, sequence })
            }
            Self::Friends { start, max } => {
                let (sequence, custom_sequence) = user.friends_sequences();
                let mut bytes = 0;
                let fits = |friend: &FriendView<'_>| {
                    bytes += friend.card_bytes();
                    bytes <= RECORDS_BYTES_MAX
                };
                let entries = user.friends_page(*start, *max).take_while(fits);
                Viewed::Friends(FriendsPage {
                    imported,
                    entries: entries.map(FriendRecord::from).collect(),
                    total: user.friends_count(),
                    sequence,
                    custom_sequence,
                })
            }
            Self::FriendRecords { peers } => {
                let records = peers.iter().map(|peer| user.friend(peer).map(FriendRecord::from));
                Viewed::FriendRecords { imported, records: records.collect() }
            }
            Self::Groups { names, members } => {
                let mut room = MEMBERS_MAX;
                let groups = user.groups(names.as_deref()).into_iter().map(|group| {
                    let count = group.members.len();
                    // The first group always fits, or the next page would begin with it again for ever.
                    let fits = *members && (count <= room || room == MEMBERS_MAX);
                    room -= if fits { count.min(room) } else { 0 };
                    let members = if fits { group.members } else { Vec::new() };
                    GroupSeen { name: group.name, count, members }
                });
                let sequence = user.groups_sequence();
                Viewed::Groups(Groups { imported, groups: groups.collect(), sequence })
            }
            Self::Profile => Viewed::Profile(
                imported.then(|| Box::new(user.profile().cloned().unwrap_or_default())),
            ),
            Self::Foreseen { command } => Viewed::Foreseen(foreseen(user, command, rules)),
            Self::Considered { asker, form, forced, over } => {
                Viewed::Considered(user.would_refuse(*asker, *form, *forced, *over, rules.0))
            }
            Self::Kept { call } => Viewed::Kept(user.kept(call).cloned().map(Box::new)),
            Self::Subscriptions { known } => {
                let kept = user.subscriptions();
                let is_known = *known == Some(kept.map_or(0, |kept| kept.sequence));
                let answer = || Box::new(kept.cloned().unwrap_or_default());
                Viewed::Subscriptions((!is_known).then(answer))
            }
            Self::Requests { incoming, start, max } => {
                Viewed::Requests(requests(user, *incoming, *start, *max))
            }
        }
    }
}

fn foreseen(
    user: &User,
    command: &Command,
    (policy, at): (&Policy, Timestamp),
) -> Result<Vec<Result<(), Rejection>>, Rejection> {
    let decision = user.clone().perform(command, policy, at)?;
    Ok(decision.outcomes.into_iter().map(|outcome| outcome.map(|_| ())).collect())
}

fn requests(user: &User, incoming: bool, start: usize, max: usize) -> RequestsPage {
    let seen = |peer, card: &Card, at| RequestSeen {
        peer,
        source: card.source.clone(),
        wording: card.wording.clone(),
        at,
    };
    let (entries, total) = if incoming {
        let page = user.requests().skip(start).take(max);
        let entries = page.map(|request| seen(request.peer, &request.card, request.at)).collect();
        (entries, user.requests().count())
    } else {
        let waiting = || user.offers().filter(|offer| offer.is_pending());
        let page = waiting().skip(start).take(max);
        (page.map(|offer| seen(offer.peer, &offer.card, offer.at)).collect(), waiting().count())
    };
    RequestsPage { imported: user.is_imported(), entries, total }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::Reply;
    use crate::actors::questions::RECORDS_AT_A_TIME;
    use crate::domain::{EdgeId, Event, Version};

    /// The most that an answer between nodes may have. Rule: cluster.md 15.
    const ANSWER_BYTES_MAX: usize = 4 << 20;
    /// The most friends and friend groups that settings allow.
    const FRIENDS_MAX: usize = 5000;
    const GROUPS_MAX: usize = 100;

    /// As long as a name can be, and twice that in JSON.
    fn name(number: usize) -> UserId {
        let letter = |bit: u32| if (number >> bit) & 1 == 0 { '"' } else { '\\' };
        UserId::parse(&(0..32).map(letter).collect::<String>()).unwrap()
    }

    /// A text of so many bytes, six times as long in JSON.
    fn text(bytes: usize) -> Box<str> {
        "\u{1}".repeat(bytes).into()
    }

    fn groups() -> Vec<Box<str>> {
        (0..GROUPS_MAX).map(|number| format!("{number:02}{}", text(28)).into()).collect()
    }

    /// Amy, who has so many friends with this record.
    fn amy(friends: usize, card: &Card) -> User {
        let mut amy = User::new(name(0));
        for peer in (1..=friends).map(name) {
            let edge = EdgeId { offerer: peer, version: Version(u64::from(u32::MAX)) };
            amy.evolve(&Event::FriendAdded { peer, edge, card: card.clone() }, Timestamp(0));
        }
        amy
    }

    /// What amy shows, which another node can be told.
    fn seen(amy: &User, view: &View) -> Viewed {
        let viewed = view.of(amy, &mut None, (&Policy::default(), Timestamp(0)));
        let answer = Ok::<_, ()>(Reply::View(viewed.clone()));
        let bytes = serde_json::to_vec(&answer).unwrap().len();
        assert!(bytes <= ANSWER_BYTES_MAX, "{bytes} bytes");
        viewed
    }

    #[test]
    fn the_largest_records_of_friends_have_room_in_an_answer_to_another_node() {
        let tag = |number: usize| format!("Tag_SNS_Custom_letter{:02}", number).into();
        let card = Card {
            remark: text(96),
            groups: groups(),
            source: "AddSource_Type_letterss".into(),
            wording: text(256),
            custom: (0..20).map(|number| (tag(number), text(500))).collect(),
            added_at: Some(u32::MAX),
            remark_at: Some(u32::MAX),
        };
        let amy = amy(100, &card);
        let mut shown = 0;
        for page in 1.. {
            let Viewed::Friends(friends) = seen(&amy, &View::Friends { start: shown, max: 100 })
            else {
                panic!("another view")
            };
            assert!(!friends.entries.is_empty() && page <= 4, "{page} pages");
            shown += friends.entries.len();
            if shown == friends.total {
                break;
            }
        }
        let peers: Vec<UserId> = (1..=RECORDS_AT_A_TIME).map(name).collect();
        let Viewed::FriendRecords { records, .. } = seen(&amy, &View::FriendRecords { peers })
        else {
            panic!("another view")
        };
        assert!(records.iter().all(Option::is_some));
    }

    #[test]
    fn members_of_groups_are_shown_as_far_as_an_answer_to_another_node_has_room() {
        let amy = amy(FRIENDS_MAX, &Card { groups: groups(), ..Card::default() });
        let shown = |members| {
            let Viewed::Groups(seen) = seen(&amy, &View::Groups { names: None, members }) else {
                panic!("another view")
            };
            assert!(seen.groups.iter().all(|group| group.count == FRIENDS_MAX));
            seen.groups.iter().filter(|group| group.members.len() == FRIENDS_MAX).count()
        };
        assert_eq!(shown(true), MEMBERS_MAX / FRIENDS_MAX);
        assert_eq!(shown(false), 0);
    }
}
