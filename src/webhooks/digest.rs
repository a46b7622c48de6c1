//! What tells one delivery from every other, and the hash by which deliveries are counted; pure.

use std::fmt;
use std::io::Write;
use std::str::FromStr;

use xxhash_rust::xxh3::xxh3_128;

use crate::journal::{Offset, Partition};
use crate::tags::CallbackCommand;

/// The id of a delivery: `<partition>@<offset>.<command>`, the same on every try. A record makes at most
/// one delivery per command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryId {
    /// The record's partition.
    pub partition: Partition,
    /// Its place there.
    pub offset: Offset,
    /// What the delivery tells.
    pub command: CallbackCommand,
}

/// A text is no id of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id of a call looks like 3@77.Sns.CallbackBlackListAdd")]
pub struct DeliveryIdError;

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}.{}", self.partition, self.offset, self.command)
    }
}

impl FromStr for DeliveryId {
    type Err = DeliveryIdError;

    fn from_str(text: &str) -> Result<Self, DeliveryIdError> {
        let (place, command) = text.split_once('.').ok_or(DeliveryIdError)?;
        let (partition, offset) = place.split_once('@').ok_or(DeliveryIdError)?;
        let id = Self {
            partition: Partition(partition.parse().map_err(|_| DeliveryIdError)?),
            offset: Offset(offset.parse().map_err(|_| DeliveryIdError)?),
            command: CallbackCommand::from_name(command).ok_or(DeliveryIdError)?,
        };
        // One text per delivery: no plus sign, no leading zero.
        if id.to_string() == text { Ok(id) } else { Err(DeliveryIdError) }
    }
}

/// What an id takes about, and a little more.
const ID_BYTES: usize = 64;

/// The hash by which a delivery is counted: of its id and of its body as the reference has it, whatever
/// format it is sent in.
pub fn hash(id: DeliveryId, reference_body: &[u8]) -> u128 {
    let mut text = Vec::with_capacity(ID_BYTES + reference_body.len());
    write!(text, "{id}").expect("it takes everything");
    text.push(0);
    text.extend_from_slice(reference_body);
    xxh3_128(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_as_it_was_written_and_nothing_else_is_an_id() {
        for command in CallbackCommand::ALL {
            let id = DeliveryId { partition: Partition(15), offset: Offset(u64::MAX), command };
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for text in [
            "",
            "3@77",
            "3@77.",
            "3@77.Sns",
            "+3@77.Sns.CallbackFriendAdd",
            "3@.Sns.CallbackFriendAdd",
            "03@7.Sns.CallbackFriendAdd",
            "70000@7.Sns.CallbackFriendAdd",
        ] {
            assert_eq!(text.parse::<DeliveryId>(), Err(DeliveryIdError), "{text}");
        }
    }

    #[test]
    fn the_hash_speaks_of_id_and_body() {
        let command = CallbackCommand::BlackListAdd;
        let id = |offset| DeliveryId { partition: Partition(0), offset: Offset(offset), command };
        assert_eq!(hash(id(1), b"{}"), hash(id(1), b"{}"));
        assert_ne!(hash(id(1), b"{}"), hash(id(2), b"{}"));
        assert_ne!(hash(id(1), b"{}"), hash(id(1), b"{ }"));
    }
}
