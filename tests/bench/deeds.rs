//! Accounts, and what an administrator has them do.

use cordon::actors::Users;
use cordon::domain::{AppId, Card, Command, NewFriend, OfferForm, Target, UserId, UserKey};
use cordon::journal::Origin;
use futures_util::stream::{self, StreamExt};
use uuid::Uuid;

const APP: AppId = AppId(1_400_000_001);

pub(super) fn id(index: usize) -> UserId {
    UserId::parse(&format!("user{index:07}")).expect("the name is legal")
}

pub(super) fn key(index: usize) -> UserKey {
    UserKey { app: APP, user: id(index) }
}

fn origin() -> Origin {
    Origin {
        operator: "administrator".into(),
        request: Uuid::now_v7(),
        ip: "127.0.0.1".into(),
        platform: "RESTAPI".into(),
    }
}

pub(super) async fn run(users: &Users, user: usize, command: Command) {
    let done = users.asker().execute(key(user), command, origin()).await.expect("it is executed");
    assert!(done.outcomes.iter().all(Result::is_ok), "{done:?}");
}

pub(super) fn block(targets: impl Iterator<Item = usize>) -> Command {
    Command::Block { targets: targets.map(|t| Target { user: id(t), imported: true }).collect() }
}

pub(super) fn befriend(targets: impl Iterator<Item = usize>, form: OfferForm) -> Command {
    let card = Card { source: "AddSource_Type_bench".into(), ..Card::default() };
    let item = |t| NewFriend { user: id(t), imported: true, card: card.clone() };
    Command::AddFriends { items: targets.map(item).collect(), form, forced: false }
}

pub(super) async fn all<F: Future<Output = ()>>(
    connections: usize,
    calls: impl Iterator<Item = F>,
) {
    stream::iter(calls).buffer_unordered(connections).collect::<Vec<()>>().await;
}
