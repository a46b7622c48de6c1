//! A call with a key that is done, and whose node ends before anybody is answered.

use cordon::domain::{
    AppId, CallKey, Card, Command, NewFriend, OfferForm, UserId, UserKey, book_of,
};
use cordon::journal::Origin;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{ADMIN, APP, TestNode, block_on};

/// Does what `command` asks of `owner` for the call under `key` that asks for `asked`, a path and a
/// body; answers the request's id.
pub(crate) fn unheard(
    node: &TestNode,
    key: &str,
    asked: &str,
    owner: &str,
    command: Command,
) -> Uuid {
    let book = book_of(&digest(key));
    let steps = [(book, Command::BeginCall), (user(owner), command)];
    carry_out(node, CallKey { key: digest(key), asked: digest(asked) }, steps)
}

/// The same of a call that its book has forgotten by now: `owner` alone knows of it.
pub(crate) fn outlived(node: &TestNode, key: &str, asked: &str, owner: &str, command: Command) {
    let call = CallKey { key: digest(key), asked: digest(asked) };
    carry_out(node, call, [(user(owner), command)]);
}

fn carry_out(
    node: &TestNode,
    call: CallKey,
    steps: impl IntoIterator<Item = (UserId, Command)>,
) -> Uuid {
    let origin = Origin {
        operator: ADMIN.into(),
        request: Uuid::now_v7(),
        ip: "127.0.0.1".into(),
        platform: "Unknown".into(),
    };
    for (user, command) in steps {
        let key = UserKey { app: AppId(APP), user };
        let doing = node.users().asker().execute_call(key, command, origin.clone(), Some(call));
        block_on(doing).expect("it is done");
    }
    origin.request
}

/// Two keys that are kept in the same book, and the book.
pub(crate) fn keys_of_one_book() -> ([String; 2], UserId) {
    let book = |key: &String| book_of(&digest(key));
    let first = "key 0".to_owned();
    let mut others = (1..).map(|number| format!("key {number}"));
    let second = others.find(|key| book(key) == book(&first)).expect("there are enough");
    let book = book(&first);
    ([first, second], book)
}

/// What a call that adds friends in both directions asks of a user.
pub(crate) fn friends_wanted(names: &[&str]) -> Command {
    let item = |name: &&str| NewFriend { user: user(name), imported: true, card: Card::default() };
    let items = names.iter().map(item).collect();
    Command::AddFriends { items, form: OfferForm::TwoWay, forced: false }
}

/// 32 hex digits, as a key and what is asked under it are written down.
fn digest(text: &str) -> UserId {
    let digest = Sha256::digest(text);
    let digits: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    user(&digits)
}

fn user(name: &str) -> UserId {
    UserId::parse(name).expect("a name")
}
