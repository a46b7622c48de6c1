//! Who takes part in a model, what they may ask for, and what their wishes are as commands.

use cordon::domain::{
    Agreement, AllowType, Card, Command, Event, FormerFriend, NewFriend, OfferForm, ProfileChange,
    RequestAnswer, Target, Timestamp, User, UserId,
};

/// Time stands still, so that it tells no two states apart.
pub(super) const AT: Timestamp = Timestamp(1_700_000_000_000);

const NAMES: [&str; 4] = ["amy", "bob", "cyd", "dan"];

pub(super) fn name(user: usize) -> UserId {
    UserId::parse(NAMES[user]).expect("a name")
}

pub(super) fn number(user: &UserId) -> usize {
    NAMES.iter().position(|name| *name == user.as_str()).expect("one of the names")
}

/// Each ordered pair of different users.
pub(super) fn pairs(users: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..users).flat_map(move |a| (0..users).filter(move |b| a != *b).map(move |b| (a, b)))
}

/// An account that exists.
pub(super) fn account(user: usize) -> User {
    let mut user = User::new(name(user));
    user.replay(user.version(), &[Event::AccountImported {}], AT);
    user
}

/// What a caller asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Wish {
    Block,
    Unblock,
    AddTwoWay,
    AddForced,
    AddOneWay,
    Import,
    RemoveBoth,
    RemoveSingle,
    DeleteAccount,
    ImportAccount,
    DenyRequests,
    /// Both get the other as a friend. Rule: extensions.md 2.
    AgreeAndAdd,
    /// Only who asked gets a friend.
    Agree,
    Decline,
    ClearBoth,
    ClearSingle,
}

impl Wish {
    /// Whether it can leave a friendship in one direction only.
    pub(super) fn is_one_way(self) -> bool {
        matches!(
            self,
            Self::AddOneWay | Self::Import | Self::RemoveSingle | Self::Agree | Self::ClearSingle
        )
    }

    /// The wish as a command about `peers`, of whom those in `has_me` have the asker as a friend and
    /// those in `gone` have no account.
    pub(super) fn command(self, peers: &[usize], has_me: &[usize], gone: &[usize]) -> Command {
        let imported = |peer: &usize| !gone.contains(peer);
        let targets = || {
            let target = |peer: &usize| Target { user: name(*peer), imported: imported(peer) };
            peers.iter().map(target).collect()
        };
        let answers = |agreement| {
            let answer = |peer: &usize| RequestAnswer {
                user: name(*peer),
                agreement,
                remark: "".into(),
                groups: Vec::new(),
            };
            Command::AnswerRequests { items: peers.iter().map(answer).collect() }
        };
        let friends = |form, forced| {
            let items = peers.iter().map(|peer| NewFriend {
                user: name(*peer),
                imported: imported(peer),
                card: Card::default(),
            });
            Command::AddFriends { items: items.collect(), form, forced }
        };
        let former = |both| {
            let targets = peers
                .iter()
                .map(|peer| FormerFriend { user: name(*peer), has_me: has_me.contains(peer) });
            Command::RemoveFriends { targets: targets.collect(), both }
        };
        let import = |allow_type| {
            Command::ImportAccount(ProfileChange { allow_type, ..ProfileChange::default() })
        };
        match self {
            Self::Block => Command::Block { targets: targets() },
            Self::Unblock => Command::Unblock { targets: targets() },
            Self::AddTwoWay => friends(OfferForm::TwoWay, false),
            Self::AddForced => friends(OfferForm::TwoWay, true),
            Self::AddOneWay => friends(OfferForm::OneWay, false),
            Self::Import => friends(OfferForm::Import, false),
            Self::RemoveBoth => former(true),
            Self::RemoveSingle => former(false),
            Self::DeleteAccount => Command::DeleteAccount,
            Self::ImportAccount => import(None),
            Self::DenyRequests => import(Some(AllowType::DenyAny)),
            Self::AgreeAndAdd => answers(Some(Agreement::Both)),
            Self::Agree => answers(Some(Agreement::OneWay)),
            Self::Decline => answers(None),
            Self::ClearBoth => Command::ClearFriends { both: true },
            Self::ClearSingle => Command::ClearFriends { both: false },
        }
    }
}
