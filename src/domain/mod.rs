//! What is true and what is allowed; pure.
//!
//! A [`User`] is one unit of consistency with one stream of events. [`User::perform`] answers what
//! follows from one wish, [`User::react`] what follows from another user's fact, and
//! [`User::evolve`] takes a fact into account. Time and ids come in as values. The rules are in
//! `blocklist.rs`, `friendship.rs`, `offer.rs`, `handshake.rs`, `group.rs`, `kept.rs`, `verdict.rs`,
//! `subscription.rs`, `seek.rs` and `account.rs`; nothing here knows files, clocks or actors.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod about;
pub mod account;
pub mod blocklist;
pub mod card;
pub mod command;
pub mod effect;
pub mod event;
pub mod friend;
mod friendship;
pub mod group;
mod handshake;
pub mod head;
pub mod id;
pub mod kept;
pub mod message;
pub mod offer;
pub mod packed;
mod perform;
pub mod policy;
pub mod profile;
mod rare;
pub mod rejection;
pub mod roll;
mod scope;
pub mod seek;
pub mod subscription;
pub mod user;
pub mod verdict;

pub use about::OfferOutcome;
pub use account::Profile;
pub use blocklist::{Block, BlocklistOrder};
pub use card::{Card, CardChange, CardView};
pub use command::{Command, FormerFriend, FriendUpdate, NewFriend, RequestAnswer, Target};
pub use effect::{Effect, Severance, effects};
pub use event::{Agreement, Event, OfferForm, RemovalReason, Settled};
pub use friend::{Friend, FriendView};
pub use group::Group;
pub use head::{Head, HeadView, Relation, RelationView};
pub use id::{AppId, EdgeId, Timestamp, UserId, UserIdError, UserKey, Version};
pub use kept::{CallKey, CameTo, Kept, KeptAnswer, Traces, Wanted, book_of, is_book};
pub use message::Message;
pub use offer::{Offer, OfferState, Request};
pub use policy::Policy;
pub use profile::{AllowType, Gender, ProfileChange};
pub use rejection::Rejection;
pub use roll::Roll;
pub use seek::{Seek, SeekTo};
pub use subscription::{
    BeforeTerms, DeliveryTerms, FailurePolicy, Fallback, Format, MAIN, Replay, SECRETS_MAX,
    SealedSecret, SecretChange, Subscription, Subscriptions, is_keeper, is_subscription_name,
    keeper,
};
pub use user::{Decision, Outcome, User};
pub use verdict::{Ground, Judged, Matter, Refusal, Verdict, Words};

#[cfg(test)]
mod tests;
